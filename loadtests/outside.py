"""What of a service others can reach: each port it listens on, tried from another network.

The other network is a namespace with a virtual cable to this one, where this process may lay one
(Linux, root, iproute2); elsewhere this machine is tried from itself, at the address it has for
others.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# For documentation and tests alone (RFC 5737): no machine has it.
NET = "203.0.113"
LISTENS = "0A"
TRY = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=3).close()
        print(port)
    except OSError:
        pass
"""


class NoOtherNetwork(Exception):
    """There is no way to look at this machine from elsewhere; says why."""


def listening(pids: Iterable[int]) -> set[int]:
    """The TCP ports on which these processes listen, at whatever address."""
    ports: dict[str, int] = {}  # socket -> port
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENS:
                    ports[f"socket:[{words[9]}]"] = int(words[1].rpartition(":")[2], 16)
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for file in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError, KeyError):
                    found.add(ports[os.readlink(f"/proc/{pid}/fd/{file}")])
    return found


def reachable(ports: Iterable[int]) -> set[int]:
    """Those that answer from another network; raises NoOtherNetwork."""
    with another_network() as (address, words):
        command = [*words, sys.executable, "-I", "-S", "-c", TRY, address, *map(str, ports)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {int(port) for port in done.stdout.split()}


@contextlib.contextmanager
def another_network() -> Iterator[tuple[str, list[str]]]:
    """This machine's address as seen from there, and the words that run a command there."""
    name = f"kairos-{secrets.token_hex(3)}"
    try:
        try:
            address, words = _lay_cable(name), ["ip", "netns", "exec", name]
        except (OSError, subprocess.CalledProcessError):  # not root, not allowed, or no `ip`
            address, words = _own_address(), []
        yield address, words
    finally:  # its end of the cable goes with it, and so ours
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _lay_cable(name: str) -> str:
    """Make the network `name`; returns this machine's address in it."""
    first = 4 * secrets.randbelow(64)
    ours, theirs = (f"{NET}.{first + host}" for host in (1, 2))
    inside, outside = (f"{name}-{end}" for end in "ab")
    _ip("netns", "add", name)
    _ip("link", "add", inside, "type", "veth", "peer", "name", outside, "netns", name)
    _ip("address", "add", f"{ours}/30", "dev", inside)
    _ip("link", "set", inside, "up")
    _ip("-n", name, "address", "add", f"{theirs}/30", "dev", outside)
    _ip("-n", name, "link", "set", outside, "up")
    return ours


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect((f"{NET}.1", 9))  # sends nothing: the kernel picks the address
        address = str(probe.getsockname()[0])
    if re.match(r"127\.|0\.0\.0\.0", address):
        raise NoOtherNetwork(
            "no second network can be made, and this machine has no address but loopback"
        )
    return address
