"""A project's archive on its way in: multipart taken apart as it arrives, hashed, and kept in one temporary file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from functions.bodies import ARCHIVE, ARCHIVE_WAY_OUT, too_large
from functions.failures import UnsupportedMedia
from lamplighter.errors import Invalid, Unavailable

MAX_TEXT_BYTES = 64 * 1024
MAX_PARTS = 16
OVERHEAD_BYTES = 1024 * 1024
"""What boundaries, part headers and text fields may add to the archive itself."""

_TEXTS = ("description", "yaml_path")


class Parcel:
    """The parts of an `import-package` request. Use as a context manager: its file is gone when the block ends.

    `feed` and `close` block on the disk: call them from a worker thread, one at a time.
    """

    def __init__(self, content_type: str, folder: Path, most: int) -> None:
        """Raises `UnsupportedMedia` for anything but multipart, `Invalid` without a boundary."""
        kind, options = parse_options_header(content_type)
        if kind.lower() != b"multipart/form-data":
            raise UnsupportedMedia(
                "Send the archive as multipart/form-data with the parts data, description, yaml_path."
            )
        if not options.get(b"boundary"):
            raise Invalid.because("The Content-Type has no multipart boundary.", "parse_error")
        self.texts: dict[str, str] = {}
        self.size = 0
        self._most = most
        self._folder = folder
        self._hash = hashlib.sha256()
        self._file: int | None = None
        self.path: Path | None = None
        self._ended = False
        self._parts = 0
        self._header = b""
        self._value = b""
        self._name = ""
        self._text = bytearray()
        self._parser = self._new_parser(options[b"boundary"])

    @property
    def sha256(self) -> str:
        """Of the archive's bytes, lower-case hex."""
        return self._hash.hexdigest()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises `Invalid`, `TooLarge`, `Unavailable` when the disk is full."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Invalid.because(f"The multipart body is malformed: {error}.", "parse_error") from error
        except OSError as error:
            raise Unavailable(
                f"keeping the upload in {self._folder} failed ({error.strerror}): free some space, then send it again"
            ) from error

    def close(self) -> None:
        """The body is complete. Raises `Invalid` if it was cut off, or brought no archive."""
        if not self._ended:
            raise Invalid.because("The multipart body ends in the middle: send it again.", "parse_error")
        if self._file is None:
            raise Invalid({"data": ["This field is required: the project as a .tar.gz."]})
        os.close(self._file)
        self._file = None

    def __enter__(self) -> Parcel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def _new_parser(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
                max_size=self._most + OVERHEAD_BYTES,
            )
        except FormParserError as error:
            raise Invalid.because(f"The multipart boundary is unusable: {error}.", "parse_error") from error

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Invalid.because(f"The multipart body has more than {MAX_PARTS} parts.", "parse_error")
        self._name = ""
        self._text = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        if self._name != "data":
            return
        if self.path is not None:
            raise Invalid({"data": ["This part came twice."]})
        self._file, path = tempfile.mkstemp(prefix="upload-", dir=self._folder)
        self.path = Path(path)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if self._name == "data":
            self._keep(piece)
        elif self._name in _TEXTS:
            self._text += piece
            if len(self._text) > MAX_TEXT_BYTES:
                raise Invalid({self._name: [f"At most {MAX_TEXT_BYTES} bytes are read."]})

    def _keep(self, piece: memoryview) -> None:
        self.size += len(piece)
        if self.size > self._most:
            raise too_large(self._most, ARCHIVE, ARCHIVE_WAY_OUT)
        self._hash.update(piece)
        while piece and self._file is not None:
            piece = piece[os.write(self._file, piece) :]

    def _part_end(self) -> None:
        if self._name in _TEXTS:
            try:
                self.texts[self._name] = self._text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise Invalid({self._name: ["This is not UTF-8."]}) from error

    def _end(self) -> None:
        self._ended = True
