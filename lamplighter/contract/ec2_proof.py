"""What an EC2 machine signs to prove who it is, and what a control plane accepts as such: one request, to the letter.

The machine signs `sts:GetCallerIdentity` with the credentials of its instance role; whoever sends the request on learns from STS
which role and which instance that was (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html). Two
headers of our own are signed with it, so that the proof is good for one nonce of one installation and for nothing else.
"""

from __future__ import annotations

from urllib.parse import urlsplit

METHOD = "POST"
BODY = "Action=GetCallerIdentity&Version=2011-06-15"
CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"
NONCE_HEADER = "X-Lamplighter-Nonce"
INSTALLATION_HEADER = "X-Lamplighter-Installation"


def sts_url(region: str) -> str:
    """The region's own STS (https://docs.aws.amazon.com/general/latest/gr/sts.html); in China under another domain."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://sts.{region}.{domain}/"


def sts_host(region: str) -> str:
    """The Host header that goes with it."""
    return urlsplit(sts_url(region)).netloc
