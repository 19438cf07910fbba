"""Credentials in addresses: left out, masked in a text, shown to a server."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

MASK = "***"
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/'\"`<>]+@")
"""Of a longer scheme the end is found. What a long line could make start over at every letter is bounded."""
_SECRET_QUERY = re.compile(
    r"(?P<name>[?&][^?=&\s]*(?:token|key|password|secret|signature|sig|auth)[^=&\s]{0,200}=)[^&\s'\"`<>]+",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 4
"""Characters; a shorter value is not searched for in messages, it would blot out ordinary words."""


def without_credentials(url: str) -> str:
    """``url`` without user, password, query and fragment: what may be written down of an address."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return re.split(r"[?#]", scheme + separator + host.rpartition("@")[2] + slash + path, maxsplit=1)[0]


def has_credentials(url: str) -> bool:
    """Whether ``url`` names a user or password, or has a query that looks like one."""
    return bool(_USERINFO.search(url) or _SECRET_QUERY.search(url))


def passwords(text: str) -> Iterator[str]:
    """The passwords in the URLs of ``text``, as written and decoded; a user without a password is a token."""
    for match in _USERINFO.finditer(text):
        user, _, password = match.group(0)[len(match.group("scheme")) : -1].partition(":")
        secret = password or user
        yield secret
        yield unquote(secret)


def redact(text: str, *, secrets: Iterable[str] = ()) -> str:
    """``text`` without the credentials of URLs, without ``secrets``, and without those of this machine's indexes."""
    text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
    text = _SECRET_QUERY.sub(rf"\g<name>{MASK}", text)
    for secret in sorted({*secrets, *_machine_secrets()}, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return text


def _machine_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if name.startswith(("UV_INDEX_", "UV_PUBLISH_")) and name.endswith(("_PASSWORD", "_TOKEN")):
            yield value
        elif name.startswith(("UV_", "PIP_")):
            yield from passwords(value)


# --- HTTP's Basic scheme (RFC 7617) -----------------------------------------------------------


def basic(user: str, password: str) -> str:
    """The value of the header Authorization that shows them."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def basic_of(url: str) -> str | None:
    """The same of the user and password in ``url``; None where it names none."""
    parts = urlsplit(url)
    return None if parts.username is None else basic(unquote(parts.username), unquote(parts.password or ""))
