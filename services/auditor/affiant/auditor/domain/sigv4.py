"""AWS Signature Version 4 for one request with a body: what S3-compatible object stores ask for.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, urlsplit


class Credentials(NamedTuple):
    """An access key, in the region where it is used."""

    access: str
    secret: str
    region: str


def signed_headers(
    method: str, url: str, body: bytes, keys: Credentials, now: datetime, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The headers to send with the request, `more` among them. `url` has no query; `now` is in UTC."""
    place, digest = urlsplit(url), sha256(body).hexdigest()
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {name.lower(): value.strip() for name, value in (more or {}).items()}
    headers |= {"host": place.netloc, "x-amz-date": stamp, "x-amz-content-sha256": digest}
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            method,
            quote(place.path or "/", safe="/%"),
            "",
            *[f"{name}:{headers[name]}" for name in sorted(headers)],
            "",
            names,
            digest,
        ]
    )
    scope = f"{day}/{keys.region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in (day, keys.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    given = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope},SignedHeaders={names},Signature={signature}"
    return headers | {"authorization": given}
