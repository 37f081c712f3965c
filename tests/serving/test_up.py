"""What `kairos up` settles before it starts Ray."""

from __future__ import annotations

import contextlib

from serving.up import own_ports


def test_services_side_by_side_share_no_port() -> None:
    # Ray's fallback proxies all listened on 8500, each port shared: while a replica was away,
    # another service on the machine acknowledged its events.
    with contextlib.ExitStack() as services:
        taken = [services.enter_context(own_ports()) for _ in range(20)]

        assert len({port for ports in taken for port in ports}) == sum(map(len, taken))
