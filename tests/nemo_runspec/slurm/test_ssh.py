"""A login node over SSH: a real sshd on this machine."""

import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.ssh_server import SshServer, connections, short_folder, wait_for

from nemo_runspec.errors import ConfigError, SlurmUnreachable
from nemo_runspec.slurm import hosts
from nemo_runspec.slurm.hosts import Host, LocalHost, SshHost

NASTY = [
    *("", " ", "a  b", "it's", '"quoted"', "$(exit 9)", "`exit 9`", "$HOME", "two\nlines\n", "-n", "\\n \\", "a;b|c&d"),
    *("*", "~", "!!", "tab\there", "größe ☃", "%s", "#no", "\r\n"),
]
ANY_BYTES = "no end of line, \x00\x01\r\n ☃ \udcff"
ENCODED = ANY_BYTES.encode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def calm_host() -> Iterator[SshHost]:
    """On a server that nobody hurts."""
    with short_folder() as path, SshServer.running(path / "server") as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{running.programs}:{os.environ['PATH']}")
        yield running.host()


@pytest.fixture(params=["local", "ssh"])
def either(request: pytest.FixtureRequest) -> Host:
    """Both hosts, which are to behave the same."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("calm_host")


def run(host: Host, *argv: str, stdin: str = "", timeout_s: float = 20) -> tuple[int, str]:
    done = host.run(argv, timeout_s=timeout_s, stdin=stdin)
    return done.code, done.out


def refusal(host: Host) -> str:
    """Why the host cannot be reached: one line."""
    with pytest.raises(SlurmUnreachable) as caught:
        host.run(["true"], timeout_s=20)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_arguments_arrive_as_they_are(either: Host) -> None:
    code, out = run(either, "sh", "-c", r'printf "%s\0" "$@"', "sh", *NASTY)
    assert (code, out.split("\0")) == (0, [*NASTY, ""])


def test_a_program_s_exit_code_is_its_own(calm_host: SshHost) -> None:
    codes = [0, 1, 44, 127, 128, 255]
    done = [calm_host.run(["sh", "-c", f"echo no >&2; exit {code}"], timeout_s=20) for code in codes]
    assert done == [hosts.Completed(code=code, out="", err="no\n") for code in codes]


def test_a_program_that_a_signal_ended_has_its_number_negative(either: Host) -> None:
    assert run(either, "sh", "-c", "exec sh -c 'kill -9 $$'") == (-9, "")


def test_input_arrives_as_it_is(either: Host) -> None:
    text = "a ☃\r\n\x00" * 100_000
    assert run(either, "cat", stdin=text) == (0, text)


def test_what_a_login_script_prints_is_no_output_of_the_command(server: SshServer) -> None:
    (server.home / ".bashrc").write_text("echo Welcome; echo to the cluster >&2\n")
    done = server.host().run(["sh", "-c", "echo 42; echo why >&2"], timeout_s=20)
    assert (done.out, done.err) == ("42\n", "why\n")


def test_a_file_is_read_from_a_byte_on(either: Host, folder: Path) -> None:
    file = folder / "it's a file"
    file.write_bytes(ENCODED)
    assert [either.read(file, begin=begin) for begin in (0, 3, 1000)] == [ENCODED, ENCODED[3:], b""]


def test_a_file_that_is_not_there_is_none_and_one_that_cannot_be_read_an_error(either: Host, folder: Path) -> None:
    assert either.read(folder / "no" / "file") is None
    with pytest.raises(SlurmUnreachable, match=r"[Ii]s a directory"):
        either.read(folder)


def test_a_file_is_written_whole_with_its_parents_and_mode(either: Host, folder: Path) -> None:
    file = folder / "new one" / "b" / "env.sh"
    either.write(file, "old", mode=0o644)
    either.write(file, ANY_BYTES, mode=0o600)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (ENCODED, 0o600)
    assert os.listdir(file.parent) == ["env.sh"]


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(either: Host, folder: Path) -> None:
    (folder / "target").mkdir()
    with pytest.raises(SlurmUnreachable, match=r"cannot write .*target: "):
        either.write(folder / "target", "text", mode=0o600)
    assert [name for name in os.listdir(folder) if "target" in name] == ["target"]


def test_a_write_is_private_from_its_first_byte_and_nothing_when_cut(folder: Path) -> None:
    target = folder / "env.sh"
    target.write_text("old")
    command = ["sh", "-c", f"umask 0; {hosts._WRITE}", "sh", str(target), "644", "100"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        writer.stdin.write(b"secr")
        writer.stdin.flush()
        (partial,) = wait_for(lambda: [path for path in folder.glob(".env.sh.*") if path.stat().st_size])
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        writer.stdin.close()  # as when the connection is lost
    assert (writer.returncode, os.listdir(folder), target.read_text()) == (1, ["env.sh"], "old")


def test_an_unknown_host_key_is_refused_and_not_added(server: SshServer) -> None:
    known = server.folder / "known_hosts"
    known.write_text("")
    assert refusal(server.host()) == (
        "ssh login: its host key is not known here; log in once by hand and compare the fingerprint with the one that "
        "the site publishes: ssh login"
    )
    assert (known.read_text(), server.num_logins()) == ("", 0)


def test_a_changed_host_key_is_refused_and_not_added(server: SshServer) -> None:
    before = (server.folder / "known_hosts").read_text()
    server.stop()
    server.make_key("host_key")
    server.start()
    assert refusal(server.host()) == (
        "ssh login: its host key is not the one that is known: somebody may be in between; ask the site, and if it "
        f"changed the key, remove the old one ({server.folder}/known_hosts:1) and log in once by hand: ssh login"
    )
    assert ((server.folder / "known_hosts").read_text(), server.num_logins()) == (before, 0)


def test_a_connection_opened_by_hand_as_a_refusal_advises_is_used(server: SshServer) -> None:
    host = server.host(port=server.port, identity=f"{server.folder}/none", name="127.0.0.1", user="root")
    said = refusal(host)
    assert f"Identity file {server.folder}/none not accessible" in said
    assert re.search(r"root@127\.0\.0\.1: Permission denied \(.*\)\. Name a key that needs no passphrase", said)
    by_hand = shlex.split(said.partition("by hand: ")[2])
    key = [f"{server.folder}/user_key" if word.endswith("/none") else word for word in by_hand]
    subprocess.run(key, check=True, timeout=20, stderr=subprocess.DEVNULL)
    assert run(host, "echo", "hello") == (0, "hello\n")


def test_user_port_and_identity_are_used(server: SshServer) -> None:
    host = server.host("127.0.0.1", user="root", port=server.port, identity=f"{server.folder}/user_key")
    assert run(host, "id", "-un") == (0, "root\n")


def test_what_the_user_s_ssh_config_says_of_the_host_is_used(server: SshServer) -> None:
    with (server.folder / "ssh_config").open("a") as config:
        config.write(f"Host inner\n  HostName 127.0.0.1\n  Port {server.port}\n  ProxyJump login\n")
        config.write(f"  IdentityFile {server.folder}/user_key\n  LocalForward {server.port} 127.0.0.1:1\n")
    assert (run(server.host("inner"), "true"), server.num_logins()) == ((0, ""), 2)


def test_a_host_that_is_down_is_told_at_once(server: SshServer) -> None:
    server.stop()
    assert refusal(server.host()) == (
        f"ssh login: ssh: connect to host 127.0.0.1 port {server.port}: Connection refused"
    )


def test_a_host_that_does_not_answer_is_told_within_the_timeout(server: SshServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = server.host("127.0.0.1", port=silent.getsockname()[1], connect_timeout_s=1)
        begun = time.monotonic()
        assert refusal(host).startswith("ssh 127.0.0.1: ")
    assert time.monotonic() - begun < 4


def test_a_host_whose_name_is_unknown_is_told(server: SshServer) -> None:
    assert "Could not resolve hostname no-such-host.invalid" in refusal(server.host("no-such-host.invalid"))


def test_a_machine_without_ssh_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert refusal(SshHost(host="login", control_dir=folder / "c")) == (
        "ssh is not installed here; install OpenSSH's client"
    )


def test_all_threads_share_one_connection(server: SshServer) -> None:
    host = server.host()
    with ThreadPoolExecutor(5) as pool:
        outs = list(pool.map(lambda number: run(host, "echo", str(number)), range(20)))
    assert outs == [(0, f"{number}\n") for number in range(20)]
    assert (server.num_logins(), len(connections(server.folder))) == (1, 1)


def test_more_commands_at_once_than_a_connection_carries_all_run(server: SshServer) -> None:
    host = server.host()  # sshd_config(5): MaxSessions is 10
    with ThreadPoolExecutor(14) as pool:
        assert set(pool.map(lambda _: run(host, "sleep", "0.7"), range(14))) == {(0, "")}


def test_a_lost_connection_is_made_again(server: SshServer) -> None:
    host = server.host()
    first = run(host, "true")
    server.stop()
    said = refusal(host)
    server.start()
    assert (first, run(host, "true"), server.num_logins()) == ((0, ""), (0, ""), 2)
    assert "ssh login: " in said


def test_a_killed_connection_leaves_a_socket_that_does_not_matter(server: SshServer) -> None:
    host = server.host()
    run(host, "true")
    (pid,) = connections(server.folder)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not connections(server.folder))
    assert host.socket_path.exists()
    assert (run(host, "true"), server.num_logins()) == ((0, ""), 2)


def test_a_command_that_is_cut_off_has_no_result(server: SshServer) -> None:
    host = server.host()
    run(host, "true")
    begun = server.folder / "begun"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.run, ["sh", "-c", f"echo 42; touch {begun}; sleep 3"], timeout_s=20)
        wait_for(begun.exists)
        server.stop()
        with pytest.raises(SlurmUnreachable, match=r"^ssh login: the connection was lost"):
            running.result()


def test_a_network_that_hangs_is_a_timeout_and_goes_on_afterwards(server: SshServer) -> None:
    host = server.host()
    run(host, "true")
    server.signal(signal.SIGSTOP)
    with pytest.raises(SlurmUnreachable, match="did not answer within 1 s"):
        host.run(["true"], timeout_s=1)
    server.signal(signal.SIGCONT)
    assert (run(host, "true"), server.num_logins()) == ((0, ""), 1)


def test_close_ends_the_connection_after_the_commands_on_it(server: SshServer) -> None:
    host = server.host()
    with ThreadPoolExecutor() as pool:
        begun = server.folder / "begun"
        running = pool.submit(run, host, "sh", "-c", f"touch {begun}; sleep 1; echo done")
        wait_for(begun.exists)
        host.close()
        assert running.result() == (0, "done\n")
    wait_for(lambda: not connections(server.folder))
    host.close()


def test_a_control_socket_s_path_that_is_too_long_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"longer than the 90 bytes .*; set TMPDIR"):
        SshHost(host="login", control_dir=folder / ("x" * 60))


def test_the_longest_path_that_is_allowed_works(server: SshServer, folder: Path) -> None:
    room = 90 - len(str(folder)) - len("//0123456789abcdef")
    host = SshHost(host="login", control_dir=folder / ("x" * room))
    server.hosts.append(host)
    assert (len(str(host.socket_path)), run(host, "true")) == (90, (0, ""))


@pytest.mark.parametrize("trap", ["mode", "owner", "link"])
def test_a_control_directory_that_others_can_use_is_refused(server: SshServer, folder: Path, trap: str) -> None:
    host, other = server.host(), folder / "other"
    other.mkdir(mode=0o700)
    if trap == "link":
        host.control_dir.symlink_to(other)
    else:
        host.control_dir.mkdir(mode=0o700)
        host.control_dir.chmod(0o770 if trap == "mode" else 0o700)
        os.chown(host.control_dir, 65534 if trap == "owner" else 0, -1)
    with pytest.raises(ConfigError, match="expected a directory of this user with mode 0700"):
        host.run(["true"], timeout_s=20)
