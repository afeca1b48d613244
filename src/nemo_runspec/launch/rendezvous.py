"""How the nodes of a job find its head: a file in the job's directory that the head writes and the others wait for.

<job dir>/rendezvous-<restart count>.json   {"step": "123.0", "ip": "10.0.0.7", "port": 10248, …}
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nemo_runspec.launch.allocation import ENV_TIMEOUT, Allocation, LaunchError

ENV_HEAD_IP = "NEMOTRON_HEAD_IP"
POLL_S = 0.1
# Below the ports that Linux gives to those who ask for any (ip_local_port_range, 32768 up).
FIRST_PORT, NUM_PORTS, PORTS_A_JOB = 20480, 12288, 8
SIOCGIFADDR = 0x8915  # netdevice(7)
SOMEWHERE_ELSE = "198.51.100.1"  # RFC 5737: nobody's; a UDP socket "connected" to it sends nothing


def publish(allocation: Allocation, where: Mapping[str, object]) -> Path:
    """Make `where` known to the other nodes, readable by this user alone."""
    path = _path(allocation)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"step": _step(allocation), **where}, file)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
    return path


def wait_for_head(allocation: Allocation) -> dict[str, Any]:
    """What the head of this very job step published.

    Raises:
        LaunchError: it did not within `timeout_s`.
    """
    path = _path(allocation)
    deadline = time.monotonic() + allocation.timeout_s
    while True:
        with suppress(OSError, ValueError):
            where: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if where["step"] == _step(allocation):
                return where
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    raise LaunchError(
        f"node {allocation.node}: node 0 did not tell its address in {path} within {allocation.timeout_s} s "
        f"({ENV_TIMEOUT}); see whether it started, and whether all nodes share that directory"
    )


def choose_head_ip(allocation: Allocation, environ: Mapping[str, str]) -> str:
    """The address of this node that others reach: `$NEMOTRON_HEAD_IP`, else the one that faces Slurm's launch node.

    Raises:
        LaunchError: there are others, and this node has no address but 127.0.0.1.
    """
    if given := environ.get(ENV_HEAD_IP):
        return given
    launch_node = environ.get("SLURM_LAUNCH_NODE_IPADDR", "")
    for ip in (local_ip(launch_node), local_ip(SOMEWHERE_ELSE), *local_addresses()):
        if ip is not None and not ip.startswith("127."):
            return ip
    if allocation.num_nodes == 1:
        return "127.0.0.1"
    raise LaunchError(f"node 0 has no address but 127.0.0.1; set {ENV_HEAD_IP} to one that the other nodes reach")


def local_ip(towards: str) -> str | None:
    """The IPv4 address from which packets to the address `towards` leave, None if there is no way."""
    if not towards:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((towards, 9))
        return str(probe.getsockname()[0])
    return None


def local_addresses() -> dict[str, str]:
    """This node's IPv4 addresses, each with the name of its interface."""
    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # one without an address
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found[socket.inet_ntoa(answer[20:24])] = name
    return found


def choose_ports(job_id: int, count: int) -> list[int]:
    """`count` free ports of this node; jobs look from different ones on, so that two on one node do not meet.

    Raises:
        LaunchError: there are not so many.
    """
    ports: list[int] = []
    for port in candidate_ports(job_id):
        if _is_free(port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise LaunchError(f"node 0 has no {count} free ports from {FIRST_PORT} to {FIRST_PORT + NUM_PORTS - 1}")


def candidate_ports(job_id: int) -> Iterator[int]:
    """All ports in the order in which the job tries them."""
    start = job_id * PORTS_A_JOB
    return (FIRST_PORT + (start + offset) % NUM_PORTS for offset in range(NUM_PORTS))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _path(allocation: Allocation) -> Path:
    return allocation.shared_dir / f"rendezvous-{allocation.restart}.json"


def _step(allocation: Allocation) -> str:
    return f"{allocation.job_id}.{allocation.step}"
