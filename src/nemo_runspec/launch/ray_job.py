"""A Ray cluster for one script: head and script on node 0, the other nodes beside it, nothing left at the end."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from nemo_runspec.launch.allocation import ENV_TIMEOUT, Allocation, LaunchError
from nemo_runspec.launch.children import Children, owned_children
from nemo_runspec.launch.link import HeadLink, JobEnded, NodeLink
from nemo_runspec.launch.ray_start import build_head_command, build_node_command, ray_environment
from nemo_runspec.launch.rendezvous import choose_head_ip, choose_ports, local_ip, publish, wait_for_head

POLL_S = 0.1


def run_ray_node(allocation: Allocation, command: Sequence[str], *, environ: Mapping[str, str]) -> int:
    """Do this node's part to the end; the script's exit code on the head, 0 on another node.

    Raises:
        LaunchError: the nodes did not come together in time, or one was lost.
    """
    with private_temp_dir(allocation) as temp_dir, owned_children() as children:
        node = _Node(allocation=allocation, command=command, environ=environ, temp_dir=temp_dir, children=children)
        return node.run_head() if allocation.is_head else node.run_other()


@contextmanager
def private_temp_dir(allocation: Allocation) -> Iterator[Path]:
    """Where Ray puts sockets and logs, removed at the end."""
    # unix(7): the path of a socket has 107 bytes at most, so never under a job's long $TMPDIR.
    path = Path(tempfile.mkdtemp(prefix=f"ray-{allocation.job_id}-{allocation.node}-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Node:
    allocation: Allocation
    command: Sequence[str]
    environ: Mapping[str, str]
    temp_dir: Path
    children: Children

    def run_head(self) -> int:
        nodes = self.allocation
        ip, token = choose_head_ip(nodes, self.environ), secrets.token_hex(32)
        port, client_port, link_port = choose_ports(nodes.job_id, 3)
        link = HeadLink(ip, link_port, token)
        published: Path | None = None
        try:
            if nodes.num_nodes > 1:
                # Before Ray is up: a node that is connected learns at once that it did not start.
                published = publish(nodes, {"ip": ip, "port": port, "link_port": link_port, "token": token})
            env = ray_environment(self.environ, token=token, temp_dir=self.temp_dir)
            start = build_head_command(
                nodes, self.command[0], ip, port=port, client_port=client_port, temp_dir=self.temp_dir
            )
            check = partial(self.check_head, link, self.children.start(start, env=env, log_path=self.log_path))
            self.wait_for_ray(ip, port, check)
            driver_env = {**env, "RAY_ADDRESS": f"{ip}:{port}"}
            self.wait_for_nodes(link, check, env=driver_env)
            driver = self.children.start(self.command, env=driver_env)
            while driver.poll() is None:
                check()
                time.sleep(POLL_S)
            return _exit_code(driver)
        finally:
            link.close()
            if published is not None:
                published.unlink(missing_ok=True)

    def run_other(self) -> int:
        nodes, where = self.allocation, wait_for_head(self.allocation)
        ip, port, token = where["ip"], where["port"], where["token"]
        link = NodeLink(ip, where["link_port"], token=token, node=nodes.node, timeout_s=nodes.timeout_s)
        try:
            self.wait_for_ray(ip, port, link.check)
            self.stay(link, ip, address=f"{ip}:{port}", token=token)
        except JobEnded:
            # srun --kill-on-bad-exit ends the others when the head ends badly; the head's exit code is to be the job's.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            return 0

    def stay(self, link: NodeLink, ip: str, *, address: str, token: str) -> NoReturn:
        """Be part of the head's Ray until the job ends."""
        env = ray_environment(self.environ, token=token, temp_dir=self.temp_dir)
        start = build_node_command(
            self.allocation, self.command[0], local_ip(ip) or ip, address=address, temp_dir=self.temp_dir
        )
        ray = self.children.start(start, env=env, log_path=self.log_path)
        while True:
            link.check()
            try:
                self.check_ray(ray)
            except LaunchError as error:
                link.tell(str(error).partition(": ")[2])
                raise
            time.sleep(POLL_S)

    def wait_for_ray(self, ip: str, port: int, check: Callable[[], None]) -> None:
        """Return when the head's Ray answers."""
        self.wait(lambda: _answers(ip, port), check, else_say=lambda: f"node 0: Ray did not start; {self.see_log}")

    def check_head(self, link: HeadLink, ray: subprocess.Popen[bytes]) -> None:
        """Raise LaunchError if Ray has ended here, or another node is lost."""
        self.check_ray(ray)
        link.check()

    def wait_for_nodes(self, link: HeadLink, check: Callable[[], None], *, env: Mapping[str, str]) -> None:
        """Return when all nodes have joined Ray."""
        num_nodes = self.allocation.num_nodes
        module = [self.command[0], "-m", "nemo_runspec.launch.ray_ready", str(num_nodes)]
        ready = self.children.start(module, env=env, log_path=self.log_path)

        def explain() -> str:
            absent = ", ".join(str(node) for node in sorted(set(range(1, num_nodes)) - link.nodes()))
            reason = f"did not start: node {absent}" if absent else "see the logs of Ray in the job's directory"
            return f"not all {num_nodes} nodes joined Ray; {reason}"

        self.wait(lambda: ready.poll() is not None, check, else_say=explain)
        if ready.returncode != 0:
            raise LaunchError(f"node 0: cannot connect to Ray; {self.see_log}")

    def wait(self, done: Callable[[], bool], check: Callable[[], None], *, else_say: Callable[[], str]) -> None:
        deadline = time.monotonic() + self.allocation.timeout_s
        while not done():
            check()
            if time.monotonic() > deadline:
                raise LaunchError(f"{else_say()}; waited {self.allocation.timeout_s} s ({ENV_TIMEOUT})")
            time.sleep(POLL_S)

    def check_ray(self, ray: subprocess.Popen[bytes]) -> None:
        """Raise LaunchError if Ray has ended on this node."""
        if ray.poll() is not None:
            raise LaunchError(f"node {self.allocation.node}: Ray ended with code {_exit_code(ray)}; {self.see_log}")

    @property
    def log_path(self) -> Path:
        """Where Ray's own output goes: the job's directory if there is one, for it outlives the job."""
        return (self.allocation.job_dir or self.temp_dir) / f"ray-node-{self.allocation.node}.log"

    @property
    def see_log(self) -> str:
        return f"see {self.log_path}" if self.allocation.job_dir else "set NEMOTRON_JOB_DIR to keep its log"


def _answers(ip: str, port: int) -> bool:
    try:
        socket.create_connection((ip, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
