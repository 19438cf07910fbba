"""One question to Docker over its socket: a look must not cost the import of docker-py (0.1 s)."""

from __future__ import annotations

import json
import socket
from urllib.parse import quote

PATIENCE = 30
"""Seconds that a daemon may take for the answer; it takes milliseconds."""


class CannotLook(Exception):
    """The daemon has no socket here, or gave no plain answer: ask through docker-py, which has words for all that."""


def image_id(reference: str, *, address: str) -> str | None:
    """The ID of the image that ``reference`` names, None where there is none.

    ``address`` is the daemon's, such as unix:///var/run/docker.sock. Raises CannotLook.
    """
    if not address.startswith("unix:///"):
        raise CannotLook(f"no socket: {address}")
    # HTTP/1.0: the answer ends with the connection, and comes in one piece
    request = f"GET /images/{quote(reference, safe='/:@')}/json HTTP/1.0\r\nHost: docker\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(address.removeprefix("unix://"))
            connection.sendall(request.encode())
            with connection.makefile("rb") as stream:
                head, _, body = stream.read().partition(b"\r\n\r\n")
    except OSError as error:
        raise CannotLook(str(error)) from error
    status = head.split(b" ", 2)[1:2]
    if status == [b"404"]:
        return None
    try:
        if status == [b"200"]:
            return str(json.loads(body)["Id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CannotLook("not Docker's answer") from error
    raise CannotLook(head.partition(b"\r\n")[0].decode("utf-8", "replace"))
