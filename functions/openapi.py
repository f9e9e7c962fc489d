"""The OpenAPI description, made from the routes themselves. `python -m functions.openapi` writes docs/openapi.json anew."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any, cast

from functions.authentication import Scheme, scheme_of
from functions.resolver import Api
from functions.routes.all import MODULES
from functions.routes.base import IMPORT_PACKAGE, new_router
from functions.routes.callers import Anybody
from functions.version import VERSION

SNAPSHOT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"

_SCHEMES: dict[str, str] = {
    "Token": 'A person\'s token: "Authorization: Token <token>".',
    "Join": 'The token a machine was launched with: "Authorization: Join <token>".',
    "Proof": 'Who a machine is, as its cloud can confirm, as base64 of JSON: "Authorization: Proof <proof>".',
    "Session": 'An agent\'s session: "Authorization: Session <token>".',
    "Job": 'The token of one attempt, for user code: "Authorization: Job <token>".',
}

_EXPLAINED = {"type": "object", "properties": {"message": {"type": "string"}, "code": {"type": "string"}}}
_DETAIL = {
    "type": "object",
    "properties": {"detail": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"}},
}
_ERRORS: dict[str, tuple[str, dict[str, Any]]] = {
    "400": ("The request has faults, by field; nothing was changed.", {"type": "object"}),
    "401": ("No valid credentials came with the call.", _DETAIL),
    "403": ("The caller may not do this.", _DETAIL),
    "404": ("There is no such thing, or the caller may not know of it.", _DETAIL),
    "405": ("The path exists, with other methods (see Allow).", _EXPLAINED),
    "409": ("The state of things forbids it now.", {**_EXPLAINED, "required": ["message", "code"]}),
    "413": ("The body is too large; the message names the limit.", _EXPLAINED),
    "415": ("The body is of a kind that this route does not read.", _EXPLAINED),
    "429": ("Too much at once: try again after Retry-After seconds.", _EXPLAINED),
    "500": ("A fault of the server; `request_id` finds it in the log.", _EXPLAINED),
    "503": ("Not possible at the moment: try again after Retry-After seconds.", _EXPLAINED),
}
_PUBLIC_ERRORS = ("400", "405", "413", "415", "429", "500", "503")
_FORM_TOO = ("logIn", "createProject")


router = new_router()


@router.get("/api/openapi.json", operation_id="getOpenApi", tags=["server"], summary="This description")
def get_openapi(call: Anybody) -> dict[str, Any]:  # noqa: ARG001
    return document()


@cache
def document() -> dict[str, Any]:
    """The whole description, as plain JSON."""
    api = Api(cast(Any, None), MODULES)
    bodies = {(r.method, r.openapi_path): r.dependant.body_params for r in api.routes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = api.get_openapi_schema(title="Lamplighter", version=VERSION, openapi_version="3.1.0")
    described: dict[str, Any] = json.loads(schema.model_dump_json(by_alias=True, exclude_none=True))
    described["components"]["securitySchemes"] = {
        name: {"type": "apiKey", "in": "header", "name": "Authorization", "description": text}
        for name, text in _SCHEMES.items()
    }
    for name in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        described["components"]["schemas"].pop(name, None)
    described["components"]["responses"] = {f"Error{s}": _error(*of) for s, of in _ERRORS.items()}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            _finish(operation, scheme_of(method.upper(), path.replace("{", "<").replace("}", ">")))
            if method == "delete" and bodies[method.upper(), path]:
                operation["requestBody"] = _delete_body()
    described["paths"]["/objects/{key}"] = _objects()
    described["paths"] = dict(sorted(described["paths"].items()))
    return described


def text() -> str:
    """The description as it is kept in the repository."""
    return json.dumps({**document(), "info": {**document()["info"], "version": "0"}}, indent=1, sort_keys=True) + "\n"


def _finish(operation: dict[str, Any], scheme: Scheme) -> None:
    accepted = ("Join", "Proof") if scheme == "Join" else (scheme,)
    operation["security"] = [] if scheme == "Public" else [{name: []} for name in accepted]
    operation["responses"].pop("422", None)
    wanted = _PUBLIC_ERRORS if scheme == "Public" else tuple(_ERRORS)
    for status in wanted:
        operation["responses"].setdefault(status, {"$ref": f"#/components/responses/Error{status}"})
    operation["responses"] = dict(sorted(operation["responses"].items()))
    if "204" in operation["responses"]:
        operation["responses"]["204"].pop("content", None)
    operation_id = operation["operationId"]
    if operation_id in _FORM_TOO:
        content = operation["requestBody"]["content"]
        content["application/x-www-form-urlencoded"] = content["application/json"]
    if operation_id == "stopExecution":
        operation["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    if operation_id == IMPORT_PACKAGE:
        operation["requestBody"] = _package_body()


def _error(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _delete_body() -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _package_body() -> dict[str, Any]:
    parts = {
        "data": {"type": "string", "format": "binary", "description": "The project as a .tar.gz."},
        "description": {"type": "string"},
        "yaml_path": {"type": "string", "default": "valohai.yaml"},
    }
    schema = {"type": "object", "properties": parts, "required": ["data"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _objects() -> dict[str, Any]:
    key = {
        "name": "key",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "May hold slashes. The query is the signature: use the URL as it was given.",
    }
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    refused = {
        s: {"$ref": f"#/components/responses/Error{s}"} for s in ("400", "403", "404", "405", "409", "413", "503")
    }
    common: dict[str, Any] = {"parameters": [key], "security": [], "tags": ["objects"]}
    return {
        "get": {
            **common,
            "operationId": "getObject",
            "summary": "Bytes by a signed URL; ranges are served",
            "responses": {
                "200": {"description": "The object", "content": binary},
                "206": {"description": "The range", "content": binary},
                "416": {"description": "The range lies outside the object."},
                **refused,
            },
        },
        "put": {
            **common,
            "operationId": "putObject",
            "summary": "Write an object once, by a signed URL",
            "requestBody": {"required": True, "content": binary},
            "responses": {"201": {"description": "Stored, durably"}, **refused},
        },
    }


if __name__ == "__main__":
    SNAPSHOT.write_text(text())
