"""What stands between this machine and the package index: certificates, proxies, a re-signed TLS -> diagnoses."""

from __future__ import annotations

import http.client
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reprobox.credentials import basic_of, redact, without_credentials
from reprobox.doctor.diagnosis import Diagnosis, ok, problem, warning
from reprobox.errors import ReproboxError
from reprobox.resolvers.indexes import default_index

_PATIENCE = 3.0
"""Seconds for each of at most three handshakes."""
_BUNDLES = ("REPROBOX_CA_BUNDLE", "SSL_CERT_FILE")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_SET_ONE = "set REPROBOX_CA_BUNDLE to a PEM file that holds the network's own certificate authority"


# --- certificates -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A file of certificates: how many, whose have expired; ``reason``: why it cannot be used."""

    variable: str
    path: str
    count: int = 0
    expired: tuple[str, ...] = ()
    reason: str = ""


def certificates() -> Iterator[Diagnosis]:
    chosen = next(((name, os.environ[name]) for name in _BUNDLES if os.environ.get(name)), None)
    yield judge_bundle(None if chosen is None else read_bundle(*chosen, now=time.time()))


def read_bundle(variable: str, path: str, *, now: float) -> Bundle:
    """The certificates in a file; ``now`` in seconds since 1970."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return Bundle(variable=variable, path=path, reason="it holds no certificates in PEM form")
    except OSError as error:
        return Bundle(variable=variable, path=path, reason=error.strerror or str(error))
    expired = tuple(
        name_of(one.get("subject"))
        for one in context.get_ca_certs()
        if ssl.cert_time_to_seconds(str(one["notAfter"])) < now
    )
    return Bundle(variable=variable, path=path, count=context.cert_store_stats()["x509"], expired=expired)


def name_of(subject: Any) -> str:
    """A certificate's ``subject`` or ``issuer``, as Python's ssl gives it -> its common name, else organisation."""
    fields = {key: value for part in subject or () for key, value in part}
    return str(fields.get("commonName") or fields.get("organizationName") or "one without a name")


def judge_bundle(found: Bundle | None) -> Diagnosis:
    if found is None:
        return ok("Certificates", "the system's own; neither REPROBOX_CA_BUNDLE nor SSL_CERT_FILE is set")
    named = f"{found.variable} {found.path}"
    if found.reason:
        return problem("Certificates", f"{named}: {found.reason}", f"correct {found.variable}, or unset it")
    fact = f"{named}: {found.count} certificates"
    if found.count and len(found.expired) == found.count:
        return problem("Certificates", f"{fact}, all of them expired", f"renew the file, or unset {found.variable}")
    return ok("Certificates", fact + (f", {len(found.expired)} of them expired" if found.expired else ""))


# --- proxies ----------------------------------------------------------------------------------


def proxies() -> Iterator[Diagnosis]:
    yield judge_proxies(os.environ)


def judge_proxies(environ: Mapping[str, str]) -> Diagnosis:
    """The variables of proxies, their credentials left out; builds get them as secrets."""
    found = {name: value for name in _PROXIES if (value := environ.get(name.lower()) or environ.get(name))}
    for name, value in found.items():
        if name != "NO_PROXY" and not urlsplit(value if "://" in value else f"//{value}").hostname:
            return problem("Proxies", f"{name} names no host: {redact(value)}", f"correct {name}, or unset it")
    said = ", ".join(f"{name} {redact(value)}" for name, value in found.items())
    return ok("Proxies", f"{said} (builds get them as secrets)" if said else "none set")


# --- the index --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Who vouches for a host: the public authorities, the user's bundle, this system (None: not asked).

    ``issuer`` signed the host's certificate; ``unreachable`` says why there was no handshake at all.
    """

    host: str
    public: bool = False
    bundle: bool | None = None
    system: bool | None = None
    system_file: str = ""
    issuer: str = ""
    unreachable: str = ""


def index() -> Iterator[Diagnosis]:
    try:
        place = default_index()
    except ReproboxError as error:
        yield warning("Package index", error.message, error.hint or "name an index in UV_DEFAULT_INDEX")
        return
    shown, parts = without_credentials(place), urlsplit(place)
    if parts.scheme != "https" or not parts.hostname:
        yield ok("Package index", f"{shown} (no TLS)")
        return
    bundle = next((os.environ[name] for name in _BUNDLES if os.environ.get(name)), None)
    yield judge_trust(shown, read_trust(parts.hostname, parts.port or 443, bundle), bundle=bundle is not None)


def judge_trust(shown: str, found: Trust, *, bundle: bool) -> Diagnosis:
    """``shown`` is the index's address; ``bundle``: the user names certificates of their own."""
    subject = "Package index"
    if found.unreachable:
        return warning(
            subject,
            f"{shown} cannot be reached: {found.unreachable}",
            "locking and building need it (set HTTPS_PROXY behind a proxy); images that are built run without",
        )
    if found.public:
        return ok(subject, f"{shown} answers")
    if found.bundle:
        return ok(subject, f"{shown} answers; TLS is re-signed by {found.issuer}: builds get your bundle as a secret")
    if found.system:
        return warning(
            subject,
            f"{shown}: TLS is re-signed by {found.issuer}, whom this system trusts and a build does not",
            f"set REPROBOX_CA_BUNDLE={found.system_file or 'FILE'}, which builds get as a secret",
        )
    who = "the public authorities, your bundle or this system" if bundle else "the public authorities or this system"
    return problem(subject, f"{shown}: its certificate is vouched for by none of {who}", _SET_ONE)


def read_trust(host: str, port: int, bundle: str | None) -> Trust:
    """At most three handshakes: with the public authorities, the user's bundle, the system's."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH as PUBLIC  # noqa: PLC0415 (slow to import; certifi's)

    system = ssl.get_default_verify_paths()
    kinds: tuple[tuple[str, Callable[[ssl.SSLContext], None]], ...] = (
        ("public", lambda context: context.load_verify_locations(cafile=PUBLIC)),
        ("bundle", lambda context: context.load_verify_locations(cafile=bundle)),
        ("system", lambda context: _load_system(context, system)),
    )
    asked: dict[str, bool] = {}
    for kind, load in kinds:
        if kind == "bundle" and not bundle:
            continue
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            load(context)
            issuer = _issuer(host, port, context)
        except ssl.SSLCertVerificationError:
            asked[kind] = False
            continue
        except (OSError, http.client.HTTPException, ValueError) as error:
            if kind == "bundle" and not Path(str(bundle)).is_file():
                asked[kind] = False
                continue
            return Trust(host=host, unreachable=redact(getattr(error, "strerror", None) or str(error) or "no answer"))
        return _trust(host, {**asked, kind: True}, issuer, system.openssl_cafile)
    return _trust(host, asked)


def _trust(host: str, asked: Mapping[str, bool], issuer: str = "", system_file: str = "") -> Trust:
    return Trust(
        host=host,
        public=asked.get("public", False),
        bundle=asked.get("bundle"),
        system=asked.get("system"),
        system_file=system_file,
        issuer=issuer,
    )


def _load_system(context: ssl.SSLContext, paths: ssl.DefaultVerifyPaths) -> None:
    """The system's store as it is built in, whatever SSL_CERT_FILE says."""
    file, folder = Path(paths.openssl_cafile), Path(paths.openssl_capath)
    if file.is_file():
        context.load_verify_locations(cafile=str(file))
    if folder.is_dir():
        context.load_verify_locations(capath=str(folder))


def _issuer(host: str, port: int, context: ssl.SSLContext) -> str:
    """Greet ``host`` by TLS, through the proxy that the environment names for it; the issuer of its certificate."""
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(host):
        way = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = http.client.HTTPSConnection(way.hostname or "", way.port or 80, timeout=_PATIENCE, context=context)
        own = basic_of(way.geturl())
        headers = {"Proxy-Authorization": own} if own else {}
        connection.set_tunnel(host, port, headers=headers)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
    try:
        connection.connect()
        found: Any = connection.sock.getpeercert()
        return name_of(found.get("issuer") if found else None)
    finally:
        connection.close()
