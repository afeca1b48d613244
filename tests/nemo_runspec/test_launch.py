"""The pure parts of the launcher: what a node makes of its environment, commands, ports, addresses, waiting."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from nemo_runspec.errors import ConfigError
from nemo_runspec.launch.__main__ import main
from nemo_runspec.launch.allocation import Allocation, LaunchError, parse_allocation
from nemo_runspec.launch.elastic import Head, build_torchrun_command, find_head, gloo_environment
from nemo_runspec.launch.link import HeadLink, NodeLink, prove
from nemo_runspec.launch.ray_start import build_head_command, build_node_command, object_store_bytes, ray_environment
from nemo_runspec.launch.rendezvous import (
    NUM_PORTS,
    candidate_ports,
    choose_head_ip,
    choose_ports,
    local_addresses,
    publish,
    wait_for_head,
)

SRUN = {
    "SLURM_JOB_ID": "123",
    "SLURM_STEP_ID": "4",
    "SLURM_NODEID": "1",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_NTASKS": "2",
    "SLURM_CPUS_ON_NODE": "8",
    "SLURM_MEM_PER_CPU": "1000",
    "SLURM_GPUS_ON_NODE": "4",
    "NEMOTRON_JOB_DIR": "/shared/job",
}


@pytest.fixture
def head(tmp_path: Path) -> Allocation:
    return Allocation(num_nodes=2, job_id=123, job_dir=tmp_path, timeout_s=0)


@pytest.fixture
def link() -> Iterator[HeadLink]:
    made = HeadLink("127.0.0.1", choose_ports(7, 1)[0], "secret")
    yield made
    made.close()


def test_the_variables_of_srun_tell_a_node_its_place() -> None:
    assert parse_allocation(SRUN) == Allocation(
        node=1,
        num_nodes=2,
        job_id=123,
        step="4",
        num_cpus=8,
        num_gpus=4,
        mem_mb=8000,
        job_dir=Path("/shared/job"),
    )


def test_outside_slurm_there_is_one_node() -> None:
    assert parse_allocation({}) == Allocation()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SLURM_NODEID", "2", "SLURM_NODEID=2 is not among 2 nodes"),
        ("SLURM_NNODES", "2-4", "SLURM_NNODES='2-4' is no whole number"),
        ("SLURM_NTASKS", "4", "SLURM_NTASKS=4 on 2 nodes: .* --ntasks-per-node=1"),
    ],
)
def test_a_wrong_start_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_allocation({**SRUN, name: value})


def test_several_nodes_need_a_directory_that_all_see() -> None:
    with pytest.raises(ConfigError, match="NEMOTRON_JOB_DIR is not set; 2 nodes need"):
        publish(Allocation(num_nodes=2), {})


def test_each_job_looks_for_ports_from_a_place_of_its_own() -> None:
    (first,), (next_one,) = (list(islice(candidate_ports(job_id), 1)) for job_id in (123, 124))
    assert next_one - first == 8
    assert len(set(candidate_ports(123))) == NUM_PORTS


def test_a_port_that_is_taken_is_left_out() -> None:
    wanted = choose_ports(99, 2)
    with socket.create_server(("", wanted[0])):
        assert wanted[1] in choose_ports(99, 2)
        assert wanted[0] not in choose_ports(99, 2)


def test_the_given_address_of_the_head_wins(head: Allocation) -> None:
    assert choose_head_ip(head, {"NEMOTRON_HEAD_IP": "10.1.2.3"}) == "10.1.2.3"


def test_the_head_has_an_address_that_others_can_reach(head: Allocation) -> None:
    ip = choose_head_ip(head, {"SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"})
    assert ip in local_addresses()
    assert not ip.startswith("127.")


def test_what_the_head_publishes_is_what_the_others_read_and_nobody_else(head: Allocation) -> None:
    path = publish(head, {"ip": "10.0.0.7", "port": 20480})
    assert wait_for_head(replace(head, node=1))["ip"] == "10.0.0.7"
    assert path.name == "rendezvous-0.json"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("other", [{"restart": 1}, {"step": "1"}, {"job_id": 9}])
def test_what_an_earlier_start_published_does_not_count(head: Allocation, other: dict[str, int]) -> None:
    publish(head, {"ip": "10.0.0.7", "port": 20480})
    with pytest.raises(LaunchError, match="did not tell its address"):
        wait_for_head(replace(head, node=1, **other))  # type: ignore[arg-type]


def test_a_head_that_does_not_come_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**SRUN, "NEMOTRON_JOB_DIR": str(tmp_path), "NEMOTRON_RENDEZVOUS_TIMEOUT_S": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["torchrun", "--", "python", "train.py"]) == 69
    said = capsys.readouterr().err
    assert said.startswith(f"error: node 1: node 0 did not tell its address in {tmp_path}/rendezvous-0.json within 0 s")
    assert said.count("\n") == 1


def test_a_command_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["direct", "--", "/no/such/python", "train.py"]) == 2
    assert capsys.readouterr().err == "error: cannot start '/no/such/python': No such file or directory\n"


def test_torchrun_gets_the_head_and_the_script_its_own_words(head: Allocation) -> None:
    command = build_torchrun_command(
        replace(head, node=1), ["py", "train.py", "--config", "a b"], Head(ip="127.0.0.1", port=5), nproc=8
    )
    assert command == [
        *("py", "-m", "nemo_runspec.launch.elastic", "--nnodes=2", "--nproc-per-node=8", "--node-rank=1"),
        *("--rdzv-backend=static", "--rdzv-id=123.0.0", "--rdzv-endpoint=127.0.0.1:5", "--rdzv-conf=timeout=0"),
        *("--local-addr=127.0.0.1", "train.py", "--config", "a b"),
    ]


def test_one_node_needs_no_shared_directory() -> None:
    assert find_head(Allocation(), {}).port in candidate_ports(0)


def test_gloo_takes_the_interface_that_faces_the_head_unless_told(head: Allocation) -> None:
    meeting = Head(ip="127.0.0.1", port=5)
    assert gloo_environment(head, meeting, {}) == {"GLOO_SOCKET_IFNAME": "lo"}
    assert gloo_environment(head, meeting, {"GLOO_SOCKET_IFNAME": "ib0"}) == {}
    assert gloo_environment(Allocation(), meeting, {}) == {}


def test_ray_start_has_no_token_and_room_for_actors(head: Allocation, tmp_path: Path) -> None:
    first = build_head_command(head, "py", "10.0.0.7", port=20480, client_port=20481, temp_dir=tmp_path)
    other = build_node_command(
        replace(head, num_cpus=16, num_gpus=8), "py", "10.0.0.8", address="10.0.0.7:20480", temp_dir=tmp_path
    )
    assert {"--head", "--port=20480", "--num-cpus=4", "--include-dashboard=false"} <= set(first)
    assert {"--address=10.0.0.7:20480", "--num-cpus=16", "--num-gpus=8", f"--temp-dir={tmp_path}"} <= set(other)


def test_rays_own_variables_of_the_user_do_not_reach_the_job(tmp_path: Path) -> None:
    outer = {"RAY_ADDRESS": "1.2.3.4:5", "RAY_AUTH_TOKEN_PATH": "/x", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": "/p"}
    env = ray_environment(outer, token="secret", temp_dir=tmp_path)
    assert (env["RAY_AUTH_MODE"], env["RAY_AUTH_TOKEN"], env["PYTHONPATH"]) == ("token", "secret", "/p")
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"} & set(env)


def test_the_object_store_is_small_where_memory_is() -> None:
    assert [object_store_bytes(mb) >> 20 for mb in (500, 8000, 100_000, 2_000_000)] == [128, 800, 30_000, 190_734]


def greet(link: HeadLink, *, token: str = "secret") -> socket.socket:
    """Node 1 as seen from the head; both ends are in one thread here."""
    connection = socket.create_connection((link.ip, link.port), timeout=30)
    num_guests = len(link.guests)
    check_until(link, lambda: len(link.guests) > num_guests)
    nonce = connection.makefile("rb").readline().strip()
    connection.sendall(f"1 {prove(token, nonce, 1)}\n".encode())
    return connection


def check_until(link: HeadLink, condition: Callable[[], object]) -> None:
    """What was sent may take a moment to be there."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        link.check()


def test_a_node_that_has_the_token_is_let_in(link: HeadLink) -> None:
    with greet(link):
        check_until(link, lambda: link.nodes() == {1})


def test_a_stranger_is_not(link: HeadLink) -> None:
    with greet(link, token="guessed"), greet(link):
        check_until(link, link.nodes)
        assert [guest.node for guest in link.guests] == [None, 1]


def test_a_node_that_goes_away_is_lost(link: HeadLink) -> None:
    with greet(link):
        check_until(link, link.nodes)
    with pytest.raises(LaunchError, match="node 1 was lost"):
        check_until(link, lambda: False)


def test_a_node_that_leaves_with_a_reason_is_told_by_it(link: HeadLink) -> None:
    with greet(link) as node:
        node.sendall(b"Ray ended with code 1\n")
        with pytest.raises(LaunchError, match="node 1: Ray ended with code 1"):
            check_until(link, lambda: False)


def test_a_node_that_finds_no_head_says_where_it_looked() -> None:
    port = choose_ports(55, 1)[0]
    with pytest.raises(LaunchError, match=rf"node 1 does not reach node 0 at 127.0.0.1:{port} .*NEMOTRON_HEAD_IP"):
        NodeLink("127.0.0.1", port, token="secret", node=1, timeout_s=0)
