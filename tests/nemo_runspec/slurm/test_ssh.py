"""A login node over SSH: a real sshd on this machine, and the real cluster behind it."""

import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bare_job import prepare, wait, wait_for_state
from cluster.cluster import Cluster
from cluster.ssh_server import SshServer, connections, free_port

from nemo_runspec.errors import ConfigError, SlurmRefused, SlurmUnreachable
from nemo_runspec.slurm import hosts
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import Host, LocalHost, SshHost
from nemo_runspec.slurm.login_node import check_login_node
from nemo_runspec.slurm.monitor import Monitor
from nemo_runspec.slurm.states import Ending
from nemo_runspec.slurm.submit import submit_once

NASTY = [
    *("", " ", "a  b", "it's", '"quoted"', "$(exit 9)", "`exit 9`", "$HOME", "two\nlines\n", "-n", "\\n \\", "a;b|c&d"),
    *("*", "~", "!!", "tab\there", "größe ☃", "%s", "#no", "\r\n"),
]
ANY_BYTES = "no end of line, \x00\x01\r\n ☃ \udcff"
ENCODED = ANY_BYTES.encode("utf-8", "surrogateescape")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with a short name, as a control socket needs."""
    path = Path(tempfile.mkdtemp(prefix="ssh-"))
    yield path
    assert connections(path) == [], "a connection is left behind"
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    with SshServer.running(folder / "server") as running:
        monkeypatch.setenv("PATH", f"{running.programs}:{os.environ['PATH']}")
        yield running


@pytest.fixture
def login(slurm: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """The cluster's login node; Slurm's programs do not find the cluster from here."""
    with SshServer.running(folder / "server", **slurm.env) as running:
        monkeypatch.setenv("PATH", f"{running.programs}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_CONF", "/dev/null")
        yield running


@pytest.fixture(params=["local", "ssh"])
def either(request: pytest.FixtureRequest) -> Host:
    """Both hosts, which are to behave the same."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("server").host()


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


@pytest.mark.parametrize("code", [0, 1, 44, 127, 128, 255])
def test_a_program_s_exit_code_is_its_own(server: SshServer, code: int) -> None:
    assert server.host().run(["sh", "-c", f"echo no >&2; exit {code}"], timeout_s=20) == hosts.Completed(
        code=code, out="", err="no\n"
    )


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


def wait_for(condition, *, timeout_s: float = 20):  # type: ignore[no-untyped-def]
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


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
    assert "root@127.0.0.1: Permission denied (publickey). Name a key that needs no passphrase" in said
    by_hand = shlex.split(said.partition("by hand: ")[2])
    key = [f"{server.folder}/user_key" if word.endswith("/none") else word for word in by_hand]
    subprocess.run(key, check=True, timeout=20, stderr=subprocess.DEVNULL)
    assert run(host, "echo", "hello") == (0, "hello\n")


def test_user_port_and_identity_are_used(server: SshServer) -> None:
    host = server.host("127.0.0.1", user="root", port=server.port, identity=f"{server.folder}/user_key")
    assert run(host, "id", "-un") == (0, "root\n")


def test_a_host_that_is_down_is_told_at_once(server: SshServer) -> None:
    server.stop()
    assert refusal(server.host()) == (
        f"ssh login: ssh: connect to host 127.0.0.1 port {server.port}: Connection refused"
    )


def test_a_host_that_does_not_answer_is_told_within_the_timeout(server: SshServer) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
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
        assert set(pool.map(lambda _: run(host, "sleep", "1"), range(14))) == {(0, "")}


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
    cut = threading.Timer(0.5, server.stop)
    cut.start()
    with pytest.raises(SlurmUnreachable, match=r"^ssh login: the connection was lost: "):
        host.run(["sh", "-c", "echo 42; sleep 3"], timeout_s=20)
    cut.join()


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
        running = pool.submit(run, host, "sh", "-c", "echo begun >&2; sleep 1; echo done")
        wait_for(host.socket_path.exists)
        time.sleep(0.3)
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


def test_a_shared_directory_is_seen_once_and_left_clean(server: SshServer, folder: Path) -> None:
    host = server.host()
    host.write(server.home / ".bashrc", f"PATH={server.folder}/slurm:$PATH\n", mode=0o600)
    for name in ("sbatch", "squeue", "sacct", "scancel"):
        host.write(server.folder / "slurm" / name, "", mode=0o755)
    check_login_node(host, {"remote_job_dir": folder / "new" / "work"})
    server.stop()
    check_login_node(host, {"remote_job_dir": folder / "new" / "work"})
    assert os.listdir(folder / "new" / "work") == []


def test_a_directory_that_the_login_node_does_not_share_is_refused(login: SshServer, folder: Path) -> None:
    login.stop()  # it has another file system at that place
    login.start(command=f"""sh -c 'eval "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed s,{folder}/work,/nowhere,g)"'""")
    with pytest.raises(ConfigError) as caught:
        check_login_node(login.host(), {"remote_job_dir": folder / "work"})
    assert str(caught.value) == (
        f"{folder}/work is not visible on login; set remote_job_dir to a directory that both share"
    )
    assert os.listdir(folder / "work") == []


def test_a_login_node_without_slurm_on_its_path_is_refused(server: SshServer, folder: Path) -> None:
    (server.home / ".bashrc").write_text(f"mkdir -p {folder}/b; ln -sf /bin/sh {folder}/b/sh; PATH={folder}/b\n")
    with pytest.raises(ConfigError, match=r"^login has no sbatch, squeue, sacct, scancel on the PATH of a command"):
        check_login_node(server.host(), {})


def test_on_this_machine_there_is_nothing_to_check(tmp_path: Path) -> None:
    check_login_node(LocalHost(), {"remote_job_dir": tmp_path / "work"})
    assert not (tmp_path / "work").exists()


def test_a_job_s_whole_life_over_one_connection(login: SshServer, tmp_path: Path) -> None:
    client = SlurmClient(host=login.host())
    job = prepare(tmp_path / "stage", "sleep 300")
    key, begun = job.attempt.intent.key, time.time()
    job_id = client.submit(job.attempt.folder / "job.sh", job.options)
    assert [found.job_id for found in client.find(key, since=begun)] == [job_id]
    assert job_id in {row.job_id for row in client.queue()}
    client.cancel(key, [job_id])
    wait_for(lambda: not client.is_queued(key))
    row = wait_for(lambda: client.accounting([job_id]).get(job_id))
    assert (row.state, login.num_logins()) == ("CANCELLED", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--no-such-option"], "unrecognized option"), (["--partition=none"], "invalid partition")],
)
def test_what_sbatch_refuses_is_no_failure_of_ssh(
    login: SshServer, tmp_path: Path, options: list[str], said: str
) -> None:
    job = prepare(tmp_path / "stage", "exit 0")
    client = SlurmClient(host=login.host())
    with pytest.raises(SlurmRefused, match=said):
        client.submit(job.attempt.folder / "job.sh", [*job.options, *options])


def test_a_cut_in_mid_watch_is_no_verdict_and_the_watch_goes_on(login: SshServer, tmp_path: Path) -> None:
    client = SlurmClient(host=login.host())
    monitor = Monitor(client=client, poll_s=1.0)
    job = prepare(tmp_path / "stage", "sleep 3")
    watched = monitor.watch(job.attempt, submit_once(job.attempt, client, job.options, is_new=True), num_gpus=0)
    wait_for_state(monitor, watched, "RUNNING")
    login.stop()
    assert monitor.wait(watched, timeout_s=6) is None  # it ends meanwhile
    assert (job.attempt.folder / "done.json").exists()
    login.start()
    verdict = wait(monitor, watched, timeout_s=30)
    assert (verdict.ending, verdict.exit_code, verdict.job_id) == (Ending.COMPLETED, "0:0", watched.job_id)


@pytest.mark.parametrize("moment", ["before Slurm hears of it", "before its answer arrives"])
def test_an_sbatch_that_is_cut_off_leads_to_one_job(login: SshServer, tmp_path: Path, moment: str) -> None:
    began = tmp_path / "began"
    order = [f"touch {began}; sleep 2", 'said=$(/usr/bin/sbatch "$@")']
    lines = order if moment == "before Slurm hears of it" else order[::-1]
    slow = tmp_path / "bin" / "sbatch"
    LocalHost().write(slow, "\n".join(["#!/bin/sh", "trap '' PIPE", *lines, 'echo "$said"', ""]), mode=0o755)
    (login.home / ".bashrc").write_text(f"[ -e {began} ] || PATH={slow.parent}:$PATH\n")

    def cut() -> None:
        wait_for(began.exists)
        login.stop()
        time.sleep(1)
        login.start()

    client, job = SlurmClient(host=login.host()), prepare(tmp_path / "stage", "exit 0")
    with ThreadPoolExecutor() as pool:
        cutting = pool.submit(cut)
        job_id = submit_once(job.attempt, client, job.options, is_new=True)
        cutting.result()
    found = client.find(job.attempt.intent.key, since=time.time() - 3600)
    assert [job.job_id for job in found] == [job_id]
