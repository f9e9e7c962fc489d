"""Objects in a bucket of S3, or of a server that speaks S3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from adapters.stores import rules
from lamplighter.errors import (
    Forbidden,
    LamplighterError,
    NotFound,
    Throttled,
    TooLarge,
    Unavailable,
)
from lamplighter.ports import ObjectInfo, Target

PART = 8 * 1024 * 1024
"""Bodies above this many bytes travel in parts of at least this size, of which one at a time is held in memory."""

MAX_PARTS = 10_000
"""S3's limit of the parts of one object."""

MAX_PUT = 5 * 1024**3
"""S3's limit of the bytes of one PUT (https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html)."""

_BUSY = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "ServiceUnavailable",
}
_REFUSED = {
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_UNKNOWN_CONDITION = {"NotImplemented", "MethodNotAllowed"}


class S3Store:
    """The `Store` port in `bucket`, every key below `prefix`, which counts in the length of a key; safe with many threads.

    Give a boto3 `client`, or what is needed to make one: with `endpoint_url` an S3-compatible server, addressed by path.
    Without keys boto3 finds its own credentials.

    Write-once rests on `If-None-Match: *`, which S3 honours. When a server answers that it does not implement it, or with
    `conditional_writes=False` for a server that silently ignores it, the store looks first and then writes: two writers of
    one key at the same moment may then both succeed and the later one wins, and a signed PUT can replace an object. One key
    being the folder of another is not refused here, as it is on a disk.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        client: Any = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        conditional_writes: bool = True,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        if self._prefix:
            rules.check_key(self._prefix.rstrip("/"))
        self._conditional = conditional_writes
        self._client = client or _client(endpoint_url, region, access_key_id, secret_access_key)

    def put(self, key: str, body: BinaryIO, *, size: int) -> None:
        place = self._place(key)
        rules.check_size(size)
        if size > PART:
            self._put_in_parts(key, place, body, size)
            return
        content = rules.read_piece(body, size + 1)
        if len(content) != size:
            raise rules.wrong_size(key, size, "more" if len(content) > size else str(len(content)))
        self._once(key, lambda condition: self._client.put_object(**place, Body=content, **condition))

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        place = self._place(key)
        rules.check_range(start, end)
        if end is not None and end == start:
            self.head(key)
            return iter(())
        ranged = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        with _s3("reading", key):
            try:
                answer = self._client.get_object(**place, **ranged)
            except self._client.exceptions.ClientError as error:
                if _code(error) not in {"InvalidRange", "416"}:
                    raise
                return iter(())
        return _pieces(key, answer["Body"])

    def head(self, key: str) -> ObjectInfo:
        place = self._place(key)
        with _s3("reading", key):
            return ObjectInfo(key, self._client.head_object(**place)["ContentLength"])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        rules.check_prefix(prefix)
        return self._listed(prefix)

    def delete(self, key: str) -> None:
        place = self._place(key)
        with _s3("deleting", key), contextlib.suppress(self._client.exceptions.NoSuchKey):
            self._client.delete_object(**place)

    def presign_get(self, key: str, *, seconds: int, filename: str | None = None) -> Target:
        saved = {} if filename is None else {"ResponseContentDisposition": rules.content_disposition(filename)}
        return Target("GET", self._presign("get_object", key, seconds, saved))

    def presign_put(self, key: str, *, seconds: int, size: int) -> Target:
        rules.check_size(size)
        if size > MAX_PUT:
            raise TooLarge(
                f"this store takes at most 5 GiB ({MAX_PUT} bytes) in one file, and this one has {size} bytes; "
                "write it as several smaller files"
            )
        condition = self._condition()
        url = self._presign("put_object", key, seconds, {"ContentLength": size, **condition})
        # Clients that name no type send one of their own, which some servers act upon.
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        headers |= {"If-None-Match": "*"} if condition else {}
        return Target("PUT", url, headers)

    def _place(self, key: str) -> dict[str, str]:
        rules.check_key(key)
        if self._prefix:
            rules.check_key(self._prefix + key)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _condition(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self._conditional else {}

    def _presign(self, operation: str, key: str, seconds: int, more: dict[str, Any]) -> str:
        rules.check_seconds(seconds)
        params = {**self._place(key), **more}
        with _s3("signing a URL for", key):
            url: str = self._client.generate_presigned_url(operation, Params=params, ExpiresIn=seconds)
            return url

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with _s3("listing", prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield ObjectInfo(found["Key"].removeprefix(self._prefix), found["Size"])

    def _once(self, key: str, write: Any) -> None:
        """Does a write that must not replace anything. `write` takes the condition as arguments and may be called twice."""
        if not self._conditional:
            self._refuse_taken(key)
            with _s3("writing", key):
                write({})
            return
        try:
            with _s3("writing", key):
                write(self._condition())
        except _ConditionUnknown:
            self._conditional = False
            self._once(key, write)
        except _Contended as error:
            # Somebody else was writing. Only an object that is really there may be called written.
            self._refuse_taken(key)
            raise Unavailable(
                f"writing {key}: another write of it was under way and left nothing; try again"
            ) from error

    def _refuse_taken(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            self.head(key)
            raise rules.already_written(key)

    def _put_in_parts(self, key: str, place: dict[str, str], body: BinaryIO, size: int) -> None:
        self._refuse_taken(key)
        with _s3("writing", key):
            upload = {**place, "UploadId": self._client.create_multipart_upload(**place)["UploadId"]}
        try:
            parts = {"Parts": list(self._send_parts(key, upload, body, size))}
            self._once(
                key,
                lambda condition: self._client.complete_multipart_upload(**upload, MultipartUpload=parts, **condition),
            )
        except BaseException:
            # What is left of an upload costs money until the bucket's lifecycle rule finds it; the first fault is the news.
            with contextlib.suppress(LamplighterError), _s3("abandoning", key):
                self._client.abort_multipart_upload(**upload)
            raise

    def _send_parts(self, key: str, upload: dict[str, str], body: BinaryIO, size: int) -> Iterator[dict[str, Any]]:
        part_size = max(PART, -(-size // MAX_PARTS))
        sent = 0
        for number in range(1, -(-size // part_size) + 1):
            wanted = min(part_size, size - sent)
            content = rules.read_piece(body, wanted)
            sent += len(content)
            if len(content) < wanted:
                raise rules.wrong_size(key, size, str(sent))
            with _s3("writing", key):
                answer = self._client.upload_part(**upload, PartNumber=number, Body=content)
            yield {"PartNumber": number, "ETag": answer["ETag"]}
        if body.read(1):
            raise rules.wrong_size(key, size, "more")


class _ConditionUnknown(Unavailable):
    """The server does not know If-None-Match on writes."""


class _Contended(Unavailable):
    """The server found another conditional write of the key under way."""


def _client(
    endpoint_url: str | None, region: str | None, access_key_id: str | None, secret_access_key: str | None
) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "max_attempts": 4},
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        # Servers other than S3 do not know the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        # Every S3-compatible server accepts this region unless it was told another.
        region_name=region or ("us-east-1" if endpoint_url else None),
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=config,
    )


def _pieces(key: str, stream: Any) -> Iterator[bytes]:
    with contextlib.closing(stream), _s3("reading", key):
        yield from stream.iter_chunks(rules.PIECE)


@contextlib.contextmanager
def _s3(attempt: str, key: str) -> Iterator[None]:
    """The one place where the SDK's failures become ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _explained(attempt, key, error) from error
    except BotoCoreError as error:
        raise Unavailable(
            f"{attempt} {key}: the store did not answer ({error}); look at its address, the network and the credentials, "
            "then try again"
        ) from error


def _explained(attempt: str, key: str, error: Any) -> LamplighterError:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{attempt} {key}: the store answered {status} {code}"
    if code == "NoSuchBucket":
        return Unavailable(f"{said}; the bucket does not exist: create it, or correct the store's settings")
    if code in _UNKNOWN_CONDITION or status == 501:
        return _ConditionUnknown(said)
    if code == "PreconditionFailed" or status == 412:
        return rules.already_written(key)
    if code == "ConditionalRequestConflict" or status == 409:
        return _Contended(said)
    if code in {"NoSuchKey", "NotFound"} or status == 404:
        return rules.not_found(key)
    if code in _BUSY or status in {429, 503}:
        return Throttled(f"{said}; it asks for fewer calls, try again later")
    if code in _REFUSED or status in {401, 403}:
        return Forbidden(f"{said}; check the credentials, the bucket's policy and this machine's clock")
    return Unavailable(f"{said} ({error.response.get('Error', {}).get('Message', 'no reason given')}); try again")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
