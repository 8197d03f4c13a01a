"""Ports are free, remembered, and replaced when a stranger holds them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.ports import HIGHEST, HOST, LOWEST, PortsError, assign, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as stranger:
        stranger.bind((HOST, 0))
        stranger.listen()
        yield stranger.getsockname()[1]


def test_each_name_gets_a_free_port_of_its_own_below_those_of_outgoing_connections():
    found = assign([f"service-{number}" for number in range(50)]).ports
    assert len(set(found.values())) == 50
    assert all(LOWEST <= port <= HIGHEST and is_free(port) for port in found.values())
    kernel = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if kernel.exists():
        assert max(found.values()) < int(kernel.read_text().split()[0])


def test_a_remembered_port_stays(taken: int):
    first = assign(["a", "b"]).ports
    assert assign(["a", "b"], first).ports == first
    ours = assign(["a"], {"a": taken}, is_ours=lambda name: name == "a")
    assert (ours.ports, ours.moved) == ({"a": taken}, {})


def test_a_port_that_a_stranger_holds_is_replaced_and_reported(taken: int):
    found = assign(["a", "b"], {"a": taken})
    assert found.moved == {"a": taken}
    assert found.ports["a"] != taken


def test_a_port_at_a_fixed_distance_is_free_too():
    first = assign(["a"], offsets={"a-far": ("a", 10_000)}).ports
    assert first["a-far"] == first["a"] + 10_000
    with socket.socket() as stranger:
        stranger.bind((HOST, first["a-far"]))
        stranger.listen()
        found = assign(["a"], first, offsets={"a-far": ("a", 10_000)})
    assert found.moved == {"a": first["a"]}


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedded.ports._bind", lambda probe, port: False)
    with pytest.raises(PortsError, match="no free port between"):
        assign(["a"])
