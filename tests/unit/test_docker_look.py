"""A look at an image over Docker's socket, against a daemon of a few lines."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reprobox.engines.docker_look import CannotLook, image_id

Asked = list[bytes]


@pytest.fixture
def daemon() -> Iterator[Callable[[bytes], tuple[str, Asked]]]:
    """Starts a daemon that gives one answer; returns its address and what it was asked."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        threads: list[threading.Thread] = []

        def start(answer: bytes) -> tuple[str, Asked]:
            place, asked = Path(folder) / "docker.sock", []
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(place))
            listener.listen()

            def serve() -> None:
                with listener, listener.accept()[0] as connection:
                    asked.append(connection.recv(4096))
                    connection.sendall(answer)

            threads.append(threading.Thread(target=serve))
            threads[-1].start()
            return f"unix://{place}", asked

        yield start
        for thread in threads:
            thread.join()


def test_the_id_of_an_image_that_is_there(daemon: Callable[[bytes], tuple[str, Asked]]) -> None:
    address, asked = daemon(b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"Id": "sha256:ab", "Size": 1}')
    assert image_id("host.example:5000/lab/name:tag", address=address) == "sha256:ab"
    assert asked == [b"GET /images/host.example:5000/lab/name:tag/json HTTP/1.0\r\nHost: docker\r\n\r\n"]


def test_an_image_that_is_not_there_is_none(daemon: Callable[[bytes], tuple[str, Asked]]) -> None:
    address, _ = daemon(b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "No such image: a:b"}')
    assert image_id("a:b", address=address) is None


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.0 500 Internal Server Error\r\n\r\n{"message": "no"}',
        b"HTTP/1.0 200 OK\r\n\r\nnot JSON",
        b'HTTP/1.0 200 OK\r\n\r\n["no mapping"]',
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"",
    ],
)
def test_any_other_answer_is_left_to_docker_py(answer: bytes, daemon: Callable[[bytes], tuple[str, Asked]]) -> None:
    address, _ = daemon(answer)
    with pytest.raises(CannotLook):
        image_id("a:b", address=address)


@pytest.mark.parametrize(
    "address", ["tcp://docker.example:2376", "ssh://docker.example", "unix:///nowhere/docker.sock"]
)
def test_a_daemon_without_a_socket_here_is_left_to_docker_py(address: str) -> None:
    with pytest.raises(CannotLook):
        image_id("a:b", address=address)
