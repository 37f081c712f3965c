"""The relay does to connections what networks do."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from loadtests.relay import Relay


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while piece := self.request.recv(4096):
            self.request.sendall(piece)


@pytest.fixture
def relay() -> Iterator[Relay]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Relay("127.0.0.1", server.server_address[1]) as relay:
            yield relay
        server.shutdown()


def link_to(relay: Relay, timeout_s: float = 20.0) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", relay.port), timeout_s)
    link.sendall(b"hello")
    assert link.recv(100) == b"hello"
    return link


def test_what_is_swallowed_comes_once_it_passes_again(relay: Relay) -> None:
    link = link_to(relay)
    relay.swallow()
    link.sendall(b"again")
    link.settimeout(0.3)
    with pytest.raises(TimeoutError):
        link.recv(100)

    relay.pass_on()
    link.settimeout(20)

    assert link.recv(100) == b"again"
    link.close()


def test_delayed_pieces_keep_their_order(relay: Relay) -> None:
    link = link_to(relay)
    relay.delay(0.2)
    link.sendall(b"slow")
    link.settimeout(0.1)
    with pytest.raises(TimeoutError):
        link.recv(100)  # 0.2 s there and 0.2 s back

    link.settimeout(20)
    link.sendall(b"er")
    got = b""
    while len(got) < 6:
        got += link.recv(100)

    assert got == b"slower"
    link.close()


def test_a_reset_is_one(relay: Relay) -> None:
    links = [link_to(relay) for _ in range(3)]

    assert relay.reset() == 6  # both ends of each
    for link in links:
        with pytest.raises(ConnectionResetError):
            link.recv(100)
        link.close()
    link_to(relay).close()  # another gets through
