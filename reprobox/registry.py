"""The registry's protocol (OCI distribution): references, digests, manifests, blobs.

Every body is hashed before anything reads it. What a registry says is trusted for nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprobox import cache, proc
from reprobox.credentials import basic, without_credentials
from reprobox.errors import HashMismatch, InvalidInput, ProgramMissing, RegistryFailed
from reprobox.model import Digest, LockedImage, Platform
from reprobox.web import Answer, Patience, Web, WebFailed, is_loopback

DEFAULT_REGISTRY = "docker.io"
_DEFAULT_HOST = "registry-1.docker.io"
_DEFAULT_CREDENTIALS = "https://index.docker.io/v1/"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

LARGEST_MANIFEST = 4 * 1024 * 1024
"""Bytes: what the protocol obliges a registry to take, and the most that is read here."""

LARGEST_ANSWER = 1024 * 1024
"""Bytes: the most that is read of a token or of an error's words."""


# --- references -------------------------------------------------------------------------------

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An image's name, complete: registry as people write it, repository, and a tag, a digest, or both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def host(self) -> str:
        """The host (and port) that speaks the protocol for this registry."""
        return _DEFAULT_HOST if self.registry == DEFAULT_REGISTRY else self.registry


def parse_reference(text: str) -> Reference:
    """``[HOST[:PORT]/]PATH[:TAG][@sha256:HEX]`` with Docker's defaults: docker.io, library/, latest.

    Raises InvalidInput, naming the part that is wrong.
    """

    def refuse(reason: str, hint: str = "write it as debian:bookworm-slim or host.example/name:tag") -> InvalidInput:
        return InvalidInput(f"{text!r} is not an image reference: {reason}", hint=hint)

    if "://" in text:
        raise refuse("it has a transport", f"write {text.partition('://')[2]}")
    rest, at, digest_text = text.partition("@")
    digest = None
    if at:
        if not digest_text.startswith("sha256:"):
            raise refuse(f"{digest_text!r} is not a sha256 digest", "write the digest as sha256: and 64 hex digits")
        try:
            digest = Digest.parse(digest_text)
        except ValueError:
            raise refuse(
                f"{digest_text!r} is not a sha256 digest", "write the digest as sha256: and 64 hex digits"
            ) from None
    head, slash, tail = rest.partition("/")
    if slash and (head == "localhost" or head.lower() != head or set(head) & set(".:[")):
        registry, path = head, tail
    else:
        registry, path = DEFAULT_REGISTRY, rest
    if not _HOST.fullmatch(registry) or not _is_port(registry):
        raise refuse(f"{registry!r} is not a host")
    if registry == f"index.{DEFAULT_REGISTRY}":
        registry = DEFAULT_REGISTRY
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise refuse(f"{tag!r} is not a tag")
    if not _REPOSITORY.fullmatch(path):
        raise refuse(f"{path!r} is not a repository")
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if len(registry) + 1 + len(path) > 255:
        raise refuse("its name is longer than 255 characters")
    return Reference(registry=registry, repository=path, tag=tag or (None if digest else "latest"), digest=digest)


def _is_port(host: str) -> bool:
    port = re.search(r":([0-9]+)$", host)
    return port is None or 0 < int(port.group(1)) < 65536


# --- credentials ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What proves who asks: a user with a secret, or a token to exchange or to show as it is."""

    user: str = ""
    secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    bearer_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        return basic(self.user, self.secret)


def docker_credentials(registry: str) -> Credentials | None:
    """The user's Docker credentials for ``registry``, from $DOCKER_CONFIG/config.json and the helpers it names.

    Raises RegistryFailed for a configuration that cannot be read or a helper that fails, ProgramMissing for a
    helper that is not installed.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        config = json.loads(path.read_bytes())
        auths, helpers = config.get("auths") or {}, config.get("credHelpers") or {}
        store = config.get("credsStore") or ""
        if not (isinstance(auths, dict) and isinstance(helpers, dict) and isinstance(store, str)):
            raise ValueError("auths and credHelpers are mappings, credsStore is a word")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not Docker's JSON"
        raise RegistryFailed(f"cannot read Docker's credentials in {path}: {reason}", hint="repair the file") from None
    server = _DEFAULT_CREDENTIALS if registry == DEFAULT_REGISTRY else registry
    helper = helpers.get(server) or helpers.get(registry) or store
    if helper:
        found = _ask_helper(str(helper), server)
        if found:
            return found
    for key, entry in auths.items():
        if isinstance(entry, dict) and (key == server or _bare(key) == registry):
            found = _from_entry(entry, f"{path} ({key})")
            if found:
                return found
    return None


def _bare(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _from_entry(entry: Mapping[str, Any], place: str) -> Credentials | None:
    if entry.get("registrytoken"):
        return Credentials(bearer_token=str(entry["registrytoken"]))
    user, secret = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            user, colon, secret = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise RegistryFailed(
                f"the credentials in {place} are damaged: `auth` is not the base64 of user:password",
                hint="log in again with `docker login`",
            )
    if entry.get("identitytoken"):
        return Credentials(user=user, refresh_token=str(entry["identitytoken"]))
    return Credentials(user=user, secret=secret.rstrip("\0")) if user else None


def _ask_helper(helper: str, server: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise RegistryFailed(
            f"Docker's configuration names a credential helper {helper!r}, which is not a program's name",
            hint="repair credsStore or credHelpers in Docker's config.json",
        )
    try:
        finished = proc.run([program, "get"], stdin=f"{server}\n".encode(), check=False)
    except ProgramMissing:
        raise ProgramMissing(
            f"Docker's configuration names the credential helper {program}, which is not installed",
            hint="install it, or take it out of credsStore or credHelpers in Docker's config.json",
        ) from None
    if finished.code != 0:
        if b"credentials not found" in finished.stdout + finished.stderr:
            return None
        raise RegistryFailed(
            f"the credential helper {program} failed with exit code {finished.code}",
            hint=f"try it by hand: echo {server} | {program} get",
        )
    try:
        answer = json.loads(finished.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryFailed(
            f"the credential helper {program} gave an answer without Username and Secret",
            hint=f"try it by hand: echo {server} | {program} get",
        ) from None
    if user == "<token>":
        return Credentials(refresh_token=secret)
    return Credentials(user=user, secret=secret) if user else None


# --- the client -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest or an index as the registry holds it: its type, its digest, its bytes, and what they say."""

    media_type: str
    digest: Digest
    data: bytes
    content: Mapping[str, Any]

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What a manifest says about a blob: its type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int


class Registry:
    """Reads images of any registry: anonymously, or with the user's Docker credentials once it is asked for some."""

    def __init__(
        self,
        *,
        credentials: Callable[[str], Credentials | None] = docker_credentials,
        patience: Patience | None = None,
    ) -> None:
        self._credentials = credentials
        self._patience = patience or Patience()
        self._web = Web(patience=self._patience)
        self._authorizations: dict[str, str] = {}

    def resolve(self, reference: str, platforms: Sequence[Platform]) -> LockedImage:
        """A reference as written -> the digest behind it, and one manifest's digest per platform.

        Raises InvalidInput for a bad reference or a platform that the image does not have, else RegistryFailed
        or HashMismatch.
        """
        parsed = parse_reference(reference)
        top = self.manifest(parsed)
        manifests = {platform: self._manifest_for(parsed, top, platform).digest for platform in platforms}
        return LockedImage(reference=reference, digest=top.digest, manifests=manifests)

    def _manifest_for(self, reference: Reference, top: Manifest, platform: Platform) -> Manifest:
        if not top.is_index:
            config = self.config(reference, top)
            there = f"{config.get('os', 'unknown')}/{config.get('architecture', 'unknown')}"
            if there != f"linux/{platform.oci_architecture}":
                raise _no_platform(reference, platform, {there})
            return top
        offered: dict[str, Mapping[str, Any]] = {}
        for entry in _entries(top, "manifests", reference):
            wanted = entry.get("platform")
            wanted = wanted if isinstance(wanted, dict) else {}
            name = f"{wanted.get('os', 'unknown')}/{wanted.get('architecture', 'unknown')}"
            if name != "unknown/unknown" and wanted.get("variant", "v8") == "v8":
                offered.setdefault(name, entry)
        chosen = offered.get(f"linux/{platform.oci_architecture}")
        if chosen is None:
            raise _no_platform(reference, platform, set(offered))
        manifest = self.manifest(reference, descriptor(chosen, reference).digest)
        if manifest.is_index:
            raise RegistryFailed(
                f"{reference} holds an index inside an index for {platform.value}",
                hint="name the inner image by its digest",
            )
        return manifest

    def config(self, reference: Reference, manifest: Manifest) -> Mapping[str, Any]:
        """The image's config: architecture, os, environment, history."""
        found = descriptor(manifest.content.get("config"), reference)
        if found.size > LARGEST_MANIFEST:
            raise _too_large(reference, f"config {found.digest}", found.size)
        content = _json(self.blob(reference, found.digest, size=found.size).read_bytes())
        if not isinstance(content, dict):
            raise RegistryFailed(f"the config of {reference} is not a JSON object", hint="choose another image")
        return content

    def manifest(self, reference: Reference, digest: Digest | None = None) -> Manifest:
        """The manifest or index behind ``digest``, else the reference's own digest, else its tag.

        Raises RegistryFailed, and HashMismatch where the bytes are not those that were asked for or promised.
        """
        digest = digest or reference.digest
        cached = cache.get(digest) if digest else None
        if cached and (kept := _manifest(cached.read_bytes(), None)):
            return kept
        what = str(digest or reference.tag)
        accept = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
        with self._get(reference, f"manifests/{what}", accept) as answer:
            data = self._body(reference, answer, LARGEST_MANIFEST)
            if data is None:
                raise _too_large(reference, f"manifest {what}", answer.headers.get("content-length"))
            promised = answer.headers.get("docker-content-digest")
            media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        got = Digest.of(data)
        if digest is None and promised and promised.startswith("sha256:"):
            try:
                digest = Digest.parse(promised)
            except ValueError:
                raise RegistryFailed(
                    f"the registry {reference.registry} names a digest for {reference} that is none: {promised[:80]!r}",
                    hint="the registry, or something between it and you, breaks the protocol",
                ) from None
        if digest and got != digest:
            raise _lie(reference, f"manifest {what}", digest, got)
        manifest = _manifest(data, media_type)
        if manifest is None:
            raise RegistryFailed(
                f"the registry {reference.registry} gave no image manifest for {reference}, "
                f"but {media_type[:100] or 'something without a type'}",
                hint="images of OCI and of Docker's schema 2 are read; older ones must be pushed again",
            )
        cache.put([data], expected=got)
        return manifest

    def blob(
        self,
        reference: Reference,
        digest: Digest,
        *,
        size: int | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Path:
        """The blob's file in the cache, fetched if need be.

        ``size`` is the most that is taken, in bytes; ``on_bytes`` hears of the size of each piece that came.
        Raises RegistryFailed, and HashMismatch where the bytes are not those of ``digest``.
        """
        kept = cache.get(digest)
        if kept:
            return kept
        what = f"the blob that the registry {reference.registry} gave for {reference.repository}"
        for attempt in range(self._patience.tries):
            with self._get(reference, f"blobs/{digest}", "*/*") as answer:
                try:
                    return cache.put(_watched(answer.chunks(), size, on_bytes), expected=digest, what=what)[1]
                except _TooLong:
                    raise RegistryFailed(
                        f"{what} is longer than the {size} bytes that its manifest says",
                        hint="the registry, or something between it and you, changes what it hands out",
                    ) from None
                except WebFailed as error:
                    if attempt == self._patience.tries - 1:
                        raise _unreachable(reference, error) from None
            self._patience.wait(attempt)
        raise AssertionError("patience has at least one try")

    # --- asking, with whatever proof is wanted ---

    @contextmanager
    def _get(self, reference: Reference, path: str, accept: str) -> Iterator[Answer]:
        scheme = "http" if is_loopback(reference.host) else "https"
        url = f"{scheme}://{reference.host}/v2/{reference.repository}/{path}"
        known = self._authorizations.get(reference.name)
        headers = {"Accept": accept} | ({"Authorization": known} if known else {})
        try:
            with self._web.request(url, headers) as answer:
                if answer.status == 200:
                    yield answer
                    return
                if answer.status != 401:
                    raise self._refusal(reference, path, answer)
                challenges = answer.challenges
            authorization = self._authorize(reference, challenges)
            with self._web.request(url, {"Accept": accept, "Authorization": authorization}) as answer:
                if answer.status != 200:
                    raise self._refusal(reference, path, answer)
                self._authorizations[reference.name] = authorization
                yield answer
        except WebFailed as error:
            raise _unreachable(reference, error) from None

    def _authorize(self, reference: Reference, challenges: Sequence[str]) -> str:
        credentials = self._credentials(reference.registry)
        offers = dict(_challenge(text) for text in challenges)
        if credentials and credentials.bearer_token:
            return f"Bearer {credentials.bearer_token}"
        if "bearer" in offers:
            return "Bearer " + self._token(reference, offers["bearer"], credentials)
        if "basic" in offers and credentials and credentials.user:
            return credentials.basic
        raise _unauthorised(reference, credentials)

    def _token(self, reference: Reference, offer: Mapping[str, str], credentials: Credentials | None) -> str:
        realm = offer.get("realm", "")
        query = {"service": offer["service"]} if offer.get("service") else {}
        query["scope"] = offer.get("scope") or f"repository:{reference.repository}:pull"
        headers, data, url = {}, None, realm
        if credentials and credentials.refresh_token:
            form = {"grant_type": "refresh_token", "client_id": "reprobox", "refresh_token": credentials.refresh_token}
            data = urllib.parse.urlencode({**query, **form}).encode()
        else:
            url += ("&" if "?" in realm else "?") + urllib.parse.urlencode(query)
            if credentials and credentials.user:
                headers["Authorization"] = credentials.basic
        try:
            with self._web.request(url, headers, data=data) as answer:
                if answer.status in (401, 403):
                    raise _unauthorised(reference, credentials)
                body = answer.whole(LARGEST_ANSWER) if answer.status == 200 else None
                content = _json(body) if body is not None else None
                status = answer.status
        except WebFailed as error:
            raise _unreachable(
                reference, error, f"the token service {without_credentials(realm)} of {reference.registry}"
            ) from None
        token = (content.get("token") or content.get("access_token")) if isinstance(content, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise RegistryFailed(
                f"the token service {without_credentials(realm)} of {reference.registry} gave no token (HTTP {status})",
                hint="try again later; if it stays, ask whoever runs the registry",
            )
        return token

    def _body(self, reference: Reference, answer: Answer, most: int) -> bytes | None:
        try:
            return answer.whole(most)
        except WebFailed as error:
            raise _unreachable(reference, error) from None

    def _refusal(self, reference: Reference, path: str, answer: Answer) -> RegistryFailed:
        codes = _error_codes(answer)
        if answer.status in (401, 403):
            return _unauthorised(reference, self._credentials(reference.registry))
        if answer.status == 404:
            kind, _, name = path.partition("/")
            if "NAME_UNKNOWN" in codes:
                return RegistryFailed(
                    f"the registry {reference.registry} has no repository {reference.repository}",
                    hint="check the name; a private one may need `docker login`",
                )
            return RegistryFailed(
                f"the registry {reference.registry} has no {kind.removesuffix('s')} {name} in {reference.repository}",
                hint="check the tag or digest; it may have been deleted, or a private repository needs `docker login`",
            )
        detail = f" ({', '.join(codes)})" if codes else ""
        if answer.status == 429:
            return RegistryFailed(
                f"the registry {reference.registry} allows no more requests for now (HTTP 429){detail}",
                hint="wait, or log in with `docker login` for a larger allowance",
            )
        return RegistryFailed(
            f"the registry {reference.registry} failed to give {reference} (HTTP {answer.status}){detail}",
            hint="try again later; if it stays, ask whoever runs the registry",
        )


def _challenge(text: str) -> tuple[str, Mapping[str, str]]:
    scheme, _, rest = text.strip().partition(" ")
    found = re.findall(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', rest)
    return scheme.lower(), {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in found}


class _TooLong(Exception):
    """A body longer than its descriptor says."""


def _watched(chunks: Iterator[bytes], most: int | None, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if most is not None and received > most:
            raise _TooLong
        yield chunk
        if on_bytes:
            on_bytes(len(chunk))


def _error_codes(answer: Answer) -> tuple[str, ...]:
    try:
        errors = _json(answer.whole(LARGEST_ANSWER) or b"")["errors"]
        return tuple(code for error in errors if re.fullmatch(r"[A-Z_]{1,40}", code := str(error["code"])))
    except (WebFailed, KeyError, TypeError):
        return ()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _manifest(data: bytes, header: str | None) -> Manifest | None:
    content = _json(data)
    if not isinstance(content, dict):
        return None
    inside = content.get("mediaType")
    if header and inside and inside != header and header in INDEXES | MANIFESTS:
        return None  # the same bytes must not be an index to one reader and a manifest to another
    media_type = inside or header or (OCI_INDEX if "manifests" in content else OCI_MANIFEST)
    if media_type not in INDEXES | MANIFESTS or ("manifests" in content) != (media_type in INDEXES):
        return None
    return Manifest(media_type=str(media_type), digest=Digest.of(data), data=data, content=content)


def descriptor(entry: object, reference: Reference) -> Descriptor:
    """A descriptor of a manifest, checked. Raises RegistryFailed."""
    if isinstance(entry, Mapping):
        digest, size, media_type = entry.get("digest"), entry.get("size"), entry.get("mediaType", "")
        if isinstance(digest, str) and digest.startswith("sha256:") and isinstance(size, int) and size >= 0:
            try:
                return Descriptor(media_type=str(media_type), digest=Digest.parse(digest), size=size)
            except ValueError:
                pass
    raise RegistryFailed(
        f"the manifest of {reference} is damaged: a descriptor needs a sha256 digest and a size",
        hint="choose another image, or have it pushed again",
    )


def layers(manifest: Manifest, reference: Reference) -> tuple[Descriptor, ...]:
    """The image's layers, from the ground up. Raises RegistryFailed."""
    return tuple(descriptor(entry, reference) for entry in _entries(manifest, "layers", reference))


def _entries(manifest: Manifest, key: str, reference: Reference) -> list[Mapping[str, Any]]:
    entries = manifest.content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RegistryFailed(
            f"the manifest of {reference} is damaged: `{key}` is not a list of descriptors",
            hint="choose another image, or have it pushed again",
        )
    return entries


# --- errors -----------------------------------------------------------------------------------


def _unreachable(reference: Reference, error: WebFailed, who: str | None = None) -> RegistryFailed:
    who = who or f"the registry {reference.registry}"
    if error.tls:
        return RegistryFailed(
            f"no secure connection to {who}: {error.reason}",
            hint="where a proxy re-signs TLS, name its CA bundle in SSL_CERT_FILE; plain http is for this machine only",
        )
    return RegistryFailed(
        f"{who} cannot be reached: {error.reason}",
        hint="check the name and the network; a proxy is named in HTTPS_PROXY",
    )


def _unauthorised(reference: Reference, credentials: Credentials | None) -> RegistryFailed:
    known = "the credentials for it were refused" if credentials else "there are no credentials for it"
    return RegistryFailed(
        f"the registry {reference.registry} does not hand out {reference.repository}: {known}",
        hint=f"check the name, then log in: docker login {reference.registry}",
    )


def _no_platform(reference: Reference, platform: Platform, there: set[str]) -> InvalidInput:
    return InvalidInput(
        f"{reference} has no linux/{platform.oci_architecture} ({platform.value}), "
        f"only {', '.join(sorted(there)) or 'nothing'}",
        hint="choose another base image, or take the platform out of `platforms`",
    )


def _lie(reference: Reference, what: str, asked: Digest, got: Digest) -> HashMismatch:
    return HashMismatch(
        f"the registry {reference.registry} gave other bytes for {what} of {reference.repository}: "
        f"asked for {asked}, got {got}",
        hint="the registry, or something between it and you, changes what it hands out; nothing of it is used",
    )


def _too_large(reference: Reference, what: str, size: object) -> RegistryFailed:
    return RegistryFailed(
        f"the {what} of {reference} is too large: {size or 'more'} bytes, and at most {LARGEST_MANIFEST} are read",
        hint="choose another image",
    )
