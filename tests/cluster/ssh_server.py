"""An sshd of one's own on this machine, for tests: its keys, its port, its log; start it, hurt it, count its logins."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from nemo_runspec.slurm.hosts import SshHost

SSHD = "/usr/sbin/sshd"
T = TypeVar("T")


@dataclass(kw_only=True)
class SshServer:
    """A running sshd; `ssh` in `programs` knows it as the host `login`, as a user's ~/.ssh/config would."""

    folder: Path
    port: int
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    hosts: list[SshHost] = field(default_factory=list)

    @classmethod
    @contextmanager
    def running(cls, folder: Path, **env: str) -> Iterator["SshServer"]:
        """The server for the block; commands get the environment `env`. Its connections end with it."""
        if os.getuid() != 0:
            pytest.skip("an sshd of one's own needs root")
        assert Path(SSHD).exists(), "SSH tests need sshd: run ./test as root on Debian, see CONTRIBUTING.md"
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd(8): it refuses to start without
        server = cls(folder=folder, port=free_port(), env=env)
        server.write_files()
        server.start()
        try:
            yield server
        finally:
            server.stop()
            for host in server.hosts:
                host.close()

    @property
    def programs(self) -> Path:
        """To be first on PATH."""
        return self.folder / "bin"

    @property
    def home(self) -> Path:
        """Where commands find the login shell's ~/.bashrc; empty at first."""
        return self.folder / "home"

    def host(self, name: str = "login", **more: object) -> SshHost:
        """A connection of its own to the server."""
        host = SshHost(host=name, control_dir=self.folder / f"c{len(self.hosts)}", **more)  # type: ignore[arg-type]
        self.hosts.append(host)
        return host

    def write_files(self) -> None:
        """Keys, known hosts, and the client's program with its configuration."""
        self.programs.mkdir(parents=True)
        self.home.mkdir()
        self.make_key("host_key")
        self.make_key("user_key")
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        self.trust()
        (self.folder / "ssh_config").write_text(
            f"Host login\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {self.folder}/user_key\n"
            f"Host *\n  UserKnownHostsFile {self.folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            "  IdentityFile none\n  IdentitiesOnly yes\n"
        )
        client = self.programs / "ssh"
        client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.folder}/ssh_config "$@"\n')
        client.chmod(0o755)

    def make_key(self, name: str) -> None:
        """A new key pair in place of an old one."""
        (self.folder / name).unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)

    def trust(self) -> None:
        """Let the client know the host key."""
        key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")

    def start(self, *, command: str = "") -> None:
        """Start it and wait until it listens; `command` runs in place of what was asked for (ForceCommand)."""
        lines = [
            *(f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder}/host_key", "UsePAM no"),
            *("PidFile none", "PermitRootLogin prohibit-password", "PasswordAuthentication no"),
            *(f"AuthorizedKeysFile {self.folder}/authorized_keys", "StrictModes no", "AllowUsers root"),
            *([f"ForceCommand {command}"] if command else []),
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in {"HOME": self.home, **self.env}.items()),
        ]
        (self.folder / "sshd_config").write_text("\n".join([*lines, ""]))
        with (self.folder / "log").open("ab") as log:
            command = [SSHD, "-f", self.folder / "sshd_config", "-D", "-e"]
            process = self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 10
        while not is_open(self.port):
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it and cut its connections; commands that run go on, without anybody to hear them."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            os.killpg(self.process.pid, signal.SIGKILL)  # a child that it forked meanwhile still listens
            self.process.wait()
            self.process = None
            deadline = time.monotonic() + 10
            while is_open(self.port):
                assert time.monotonic() < deadline, "something still listens"
                time.sleep(0.02)

    def signal(self, signum: signal.Signals) -> None:
        """To the server and all that serves its connections."""
        assert self.process is not None
        server = self.process.pid
        for pid in [server, *(child for child in descendants(server) if name_of(child) == "sshd")]:
            with contextlib.suppress(ProcessLookupError):  # a connection that has just ended
                os.kill(pid, signum)

    def num_logins(self) -> int:
        """Of all its lives."""
        return (self.folder / "log").read_text().count("Accepted publickey")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """The process's children, and theirs."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def connections(folder: Path) -> list[int]:
    """The ssh processes whose control sockets lie under the folder."""
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):
            if name_of(pid) == "ssh" and f"{folder}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def wait_for_no_connection(folder: Path) -> None:
    """A closed connection's process may take a moment to end; fail the test if one stays."""
    deadline = time.monotonic() + 10
    while connections(folder):
        assert time.monotonic() < deadline, "a connection is left behind"
        time.sleep(0.1)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A directory with a short name, as a control socket needs; no connection may outlive it."""
    path = Path(tempfile.mkdtemp(prefix="ssh-"))
    yield path
    wait_for_no_connection(path)
    shutil.rmtree(path)


def wait_for(condition: Callable[[], T], *, timeout_s: float = 20) -> T:
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value
