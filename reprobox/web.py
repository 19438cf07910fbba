"""One HTTP request, patiently: redirects, retries, limits, nothing secret in an error."""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from reprobox import __version__
from reprobox.credentials import without_credentials

CHUNK = 256 * 1024
TIMEOUT = 60.0
"""Seconds that a server may be silent."""

SLOWEST = 100.0
"""Bytes a second: a server that gives less, over TIMEOUT seconds, is as good as silent."""

MOST_REDIRECTS = 5


class WebFailed(Exception):
    """A request that got no answer: ``reason`` in words, and whether certificates were the matter."""

    def __init__(self, reason: str, *, tls: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tls = tls


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long to try again: seconds, doubling from ``first``, never more than ``longest``."""

    tries: int = 4
    first: float = 0.5
    longest: float = 20.0
    timeout: float = TIMEOUT
    sleep: Callable[[float], None] = time.sleep

    def wait(self, attempt: int, retry_after: str | None = None) -> None:
        self.sleep(min(self.longest, max(self.first * 2**attempt, _seconds(retry_after))))


def _seconds(retry_after: str | None) -> float:
    if not retry_after:
        return 0.0
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", retry_after):
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


class _Response(Protocol):
    """The part of http.client's answer that is used here; urllib names its type too vaguely."""

    status: int
    headers: http.client.HTTPMessage

    def read1(self, amount: int, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A server's answer; its body is read once, by ``whole`` or ``chunks``. ``url`` is where it came from."""

    url: str
    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    response: _Response
    patience: Patience

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces. Raises WebFailed where the connection breaks, crawls, or the body is short."""
        length = self.headers.get("content-length")
        received = counted = 0
        since = time.monotonic()
        try:
            while chunk := self.response.read1(CHUNK):
                received += len(chunk)
                yield chunk
                if (took := time.monotonic() - since) > self.patience.timeout:
                    if received - counted < SLOWEST * took:
                        raise WebFailed(f"the answer crawls: {received - counted} bytes in {took:.0f} s")
                    since, counted = time.monotonic(), received
        except (OSError, http.client.HTTPException) as error:
            raise WebFailed(f"the connection broke after {received} bytes ({type(error).__name__})") from error
        finally:
            self.response.close()
        if length is not None and re.fullmatch(r"[0-9]+", length) and received < int(length):
            raise WebFailed(f"the answer ended after {received} of {length} bytes")

    def whole(self, most: int) -> bytes | None:
        """The body, or None where it is longer than ``most`` bytes. Raises WebFailed as ``chunks`` does."""
        parts: list[bytes] = []
        for chunk in self.chunks():
            parts.append(chunk)
            if sum(map(len, parts)) > most:
                self.response.close()
                return None
        return b"".join(parts)


class _AsItCame(urllib.request.HTTPErrorProcessor):
    """Hands every answer over, redirects and errors too: what they mean is decided here, not in urllib."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


class Web:
    """HTTP with proxies and certificates from the environment, redirects that keep secrets, bounded patience.

    Plain HTTP is refused, for redirects too, unless the host is this machine or ``plain`` allows it.
    """

    def __init__(
        self, *, patience: Patience | None = None, plain: bool = False, proxies: Mapping[str, str] | None = None
    ) -> None:
        """``proxies`` (by scheme) count where the environment names none."""
        self.patience = patience or Patience()
        self._plain = plain
        self._proxies = dict(proxies or {})
        self._openers: dict[bool, urllib.request.OpenerDirector] = {}

    def _opener(self, *, direct: bool) -> urllib.request.OpenerDirector:
        if direct not in self._openers:
            opener = urllib.request.OpenerDirector()
            proxies = {} if direct else {**self._proxies, **urllib.request.getproxies()}
            for handler in (
                urllib.request.ProxyHandler(proxies),
                urllib.request.HTTPHandler(),
                urllib.request.HTTPSHandler(context=ssl.create_default_context()),
                _AsItCame(),
            ):
                opener.add_handler(handler)
            self._openers[direct] = opener
        return self._openers[direct]

    @contextmanager
    def request(
        self, url: str, headers: Mapping[str, str] | None = None, *, data: bytes | None = None
    ) -> Iterator[Answer]:
        """The answer to GET (with ``data``: POST), after redirects and after trying again where that may help.

        Raises WebFailed where there is none.
        """
        answer = self._patiently(url, dict(headers or {}), data)
        try:
            yield answer
        finally:
            answer.response.close()

    def _patiently(self, url: str, headers: dict[str, str], data: bytes | None) -> Answer:
        for attempt in range(self.patience.tries):
            last = attempt == self.patience.tries - 1
            try:
                answer = self._follow(url, headers, data)
            except WebFailed as error:
                if last or error.tls:
                    raise
                self.patience.wait(attempt)
                continue
            if last or answer.status not in (429, 500, 502, 503, 504):
                return answer
            answer.response.close()
            self.patience.wait(attempt, answer.headers.get("retry-after"))
        raise AssertionError("patience has at least one try")

    def _follow(self, url: str, headers: dict[str, str], data: bytes | None) -> Answer:
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._once(url, headers, data)
            target = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            answer.response.close()
            target = urllib.parse.urljoin(url, target)
            if _origin(target) != _origin(url):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                if data is not None:
                    raise WebFailed("a request that carries credentials was redirected to another host")
            url = target
        raise WebFailed(f"more than {MOST_REDIRECTS} redirects")

    def _once(self, url: str, headers: Mapping[str, str], data: bytes | None) -> Answer:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]  # what stands before the @ would become a part of the host's name
        url = urllib.parse.urlunsplit(parts._replace(netloc=host, fragment=""))
        loopback = is_loopback(host)
        if parts.scheme != "https" and not (parts.scheme == "http" and (loopback or self._plain)):
            raise WebFailed(f"the address {without_credentials(url)} is not https", tls=True)
        request = urllib.request.Request(  # noqa: S310 (the scheme was looked at)
            url, data=data, headers={"User-Agent": f"reprobox/{__version__}", **headers}
        )
        try:
            response = self._opener(direct=loopback).open(request, timeout=self.patience.timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLError):
                words = getattr(reason, "verify_message", "") or reason.reason or str(reason)
                raise WebFailed(str(words), tls=not isinstance(reason, ssl.SSLEOFError)) from None
            words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise WebFailed(str(words)) from None
        found = cast(_Response, response)
        return Answer(
            url=url,
            status=found.status,
            headers={name.lower(): value for name, value in found.headers.items()},
            challenges=tuple(found.headers.get_all("WWW-Authenticate") or ()),
            response=found,
            patience=self.patience,
        )


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Whether ``host``, with or without a port, is this machine by its very name."""
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
