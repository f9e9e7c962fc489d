"""Passwords and token texts: how they are made, kept and compared."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import zlib

_N, _R, _P = 2**14, 8, 1
_PREFIX = "mlo_"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(r"(mlo_[A-Za-z0-9_-]{43})([A-Za-z0-9]{6})")
_NOBODY = f"scrypt${_N}${_R}${_P}${'A' * 24}${'A' * 44}"

HINT_CHARS = 12
"""How much of a token's text is shown in lists: the prefix and eight of its 43 secret characters."""


def hash_password(password: str) -> str:
    """A salted scrypt hash that carries its own parameters."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_N}${_R}${_P}${_to_text(salt)}${_to_text(_scrypt(password, salt, _N, _R, _P))}"


def password_fits(password: str, hashed: str) -> bool:
    """Whether this is the password. An empty hash fits none, and costs as much to find out."""
    _, n, r, p, salt, expected = (hashed or _NOBODY).split("$")
    found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(expected)) and bool(hashed)


def new_password() -> str:
    """A password for somebody to copy: 144 random bits."""
    return secrets.token_urlsafe(18)


def new_token_text() -> str:
    """`mlo_`, 256 random bits, and a checksum by which scanners of leaked secrets know it for certain."""
    body = _PREFIX + secrets.token_urlsafe(32)
    return body + _checksum(body)


def well_formed(token_text: str) -> bool:
    """Whether this was ever one of our tokens, without asking anybody."""
    found = _TOKEN.fullmatch(token_text)
    return bool(found) and hmac.compare_digest(_checksum(token_text[:-6]), token_text[-6:])


def token_hash(token_text: str) -> str:
    """What is stored of a token: the SHA-256 in lower-case hex. 256 random bits need no salt."""
    return hashlib.sha256(token_text.encode()).hexdigest()


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, dklen=32)


def _to_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
