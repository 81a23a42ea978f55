"""Ports are chosen once and kept."""

import socket
from pathlib import Path

from clew_local.servers.ports import LOOPBACK, Ports


def test_a_pair_lies_apart_and_stays(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    ports.pair("admin", "admin_grpc", 10_000)
    chosen = ports.get("admin", "admin_grpc")
    assert chosen[1] - chosen[0] == 10_000
    with socket.create_server((LOOPBACK, chosen[0])):  # taken meanwhile, and kept all the same
        again = Ports(tmp_path / "ports.json")
        again.pair("admin", "admin_grpc", 10_000)
        assert again.get("admin", "admin_grpc") == chosen


def test_ports_that_were_no_pair_become_one(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    before = ports.get("other", "admin", "admin_grpc")
    ports.pair("admin", "admin_grpc", 10_000)
    admin, grpc = Ports(tmp_path / "ports.json").get("admin", "admin_grpc")
    assert grpc - admin == 10_000
    assert ports.get("other") == before[:1]
