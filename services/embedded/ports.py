"""Free TCP ports on loopback."""

import random
import socket

LOOPBACK = "127.0.0.1"

#: SeaweedFS opens a second port this much above each port that it is given.
GRPC_OFFSET = 10_000

# Below every system's range for outgoing connections (Linux: from 32768), so that no client takes a
# port between our check and the server's bind. The second ports of SeaweedFS are in the upper half.
_FIRST_PORT = 11_000
_PORTS = 10_000


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that are closing don't keep a port from a new listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> tuple[int, ...]:
    """Choose ports at random, each of them free together with the port `GRPC_OFFSET` above it.

    Another process may take one before it is used, so callers try again with new ones.

    Raises:
        OSError: If there are not enough free ports.
    """
    candidates = random.sample(range(_FIRST_PORT, _FIRST_PORT + _PORTS), _PORTS)
    chosen: list[int] = []
    for port in candidates:
        if is_free(port) and is_free(port + GRPC_OFFSET):
            chosen.append(port)
        if len(chosen) == count:
            return tuple(chosen)
    last = _FIRST_PORT + _PORTS - 1
    raise OSError(f"expected {count} free ports between {_FIRST_PORT} and {last}, got {chosen}")
