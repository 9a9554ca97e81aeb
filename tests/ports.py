"""Ports of this machine that servers of the tests can have."""

import itertools
import os
import socket

# Below those that systems give to outgoing connections, one of which could take a port between its choice and its use.
_CANDIDATES = itertools.cycle(range(20_000, 30_000))
for _ in range(os.getpid() * 37 % 10_000):  # several runs of the tests at once begin at different places
    next(_CANDIDATES)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that was not given out before."""
    for port in _CANDIDATES:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("never reached")
