"""Free ports on 127.0.0.1, outside the range from which the kernel gives ports to outgoing connections.

A port of that range may be taken by any client while its server is being restarted.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 10_000
HIGHEST = 32_000
_KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortsError(Exception):
    """No free port was found."""


@dataclass(frozen=True)
class Assignment:
    """`moved`: names whose remembered port was held by somebody else, with that old port."""

    ports: dict[str, int]
    moved: dict[str, int]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return _bind(probe, port)


def _bind(probe: socket.socket, port: int) -> bool:
    # As servers do: a port in TIME_WAIT counts as free, one that is listened on does not.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
    except OSError:
        return False
    return True


def _highest() -> int:
    if not _KERNEL_RANGE.exists():
        return HIGHEST
    first = int(_KERNEL_RANGE.read_text().split()[0])
    return min(HIGHEST, first - 1) if first > 2 * LOWEST + 1000 else HIGHEST


def assign(
    names: Iterable[str],
    remembered: Mapping[str, int] | None = None,
    is_ours: Callable[[str], bool] = lambda name: False,
    offsets: Mapping[str, tuple[str, int]] | None = None,
) -> Assignment:
    """One port a name: the remembered one if it is free or held by our own running server, else a new free one.

    `offsets`: names whose port is fixed to another's plus a distance, as {"admin-grpc": ("admin", 10000)}; both must
    be free. Those of names that are not asked for do not count. Raises PortsError when 2,000 tries find none.
    """
    known = dict(remembered or {})
    wanted = list(names)
    followers = {name: place for name, place in (offsets or {}).items() if place[0] in wanted}
    ports: dict[str, int] = {}
    moved: dict[str, int] = {}
    taken: set[int] = set()
    with ExitStack() as held:  # all stay bound until all are chosen, so that nobody else gets them meanwhile
        for name in wanted:
            if name in followers:
                continue
            distances = [distance for leader, distance in followers.values() if leader == name]
            old = known.get(name)
            if old is not None and (is_ours(name) or _hold(held, taken, old, distances)):
                ports[name] = old
                continue
            ports[name] = _new(held, taken, set(known.values()), distances)
            if old is not None:
                moved[name] = old
        for name, (leader, distance) in followers.items():
            ports[name] = ports[leader] + distance
    return Assignment(ports, moved)


def _hold(held: ExitStack, taken: set[int], port: int, distances: list[int]) -> bool:
    """`taken`: ports of other names in this call; two sockets that do not listen may be bound to one port."""
    candidates = (port, *(port + distance for distance in distances))
    if taken.intersection(candidates):
        return False
    with ExitStack() as attempt:
        for candidate in candidates:
            if not _bind(attempt.enter_context(socket.socket()), candidate):
                return False
        held.push(attempt.pop_all())
    taken.update(candidates)
    return True


def _new(held: ExitStack, taken: set[int], avoid: set[int], distances: list[int]) -> int:
    highest = _highest() - max(distances, default=0)
    for _ in range(2000):
        port = random.randint(LOWEST, highest)
        if port not in avoid and _hold(held, taken, port, distances):
            return port
    raise PortsError(f"no free port between {LOWEST} and {HIGHEST} on {HOST}; stop what listens there")
