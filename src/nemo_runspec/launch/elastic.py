"""torchrun on the nodes of a job: its command line, and torchrun itself with the script's own exit code.

`python -m nemo_runspec.launch.elastic ARGS…` is `torchrun ARGS…`, except that it ends with the exit code of the worker
that failed first, where torchrun hides it behind 1, and tells a lost rendezvous in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nemo_runspec.launch.allocation import Allocation
from nemo_runspec.launch.rendezvous import (
    choose_head_ip,
    choose_ports,
    local_addresses,
    local_ip,
    publish,
    wait_for_head,
)

UNAVAILABLE = 69  # sysexits.h: EX_UNAVAILABLE


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where the nodes meet."""

    ip: str
    port: int


def find_head(allocation: Allocation, environ: Mapping[str, str]) -> Head:
    """On node 0 choose where to meet and tell the others; on the others, wait for that."""
    if not allocation.is_head:
        where = wait_for_head(allocation)
        return Head(ip=where["ip"], port=where["port"])
    head = Head(ip=choose_head_ip(allocation, environ), port=choose_ports(allocation.job_id, 1)[0])
    if allocation.num_nodes > 1:
        publish(allocation, {"ip": head.ip, "port": head.port})
    return head


def build_torchrun_command(allocation: Allocation, command: Sequence[str], head: Head, *, nproc: int) -> list[str]:
    """The command as `nproc` processes on each node; the first word is the interpreter."""
    options = {
        "nnodes": allocation.num_nodes,
        "nproc-per-node": nproc,
        "node-rank": allocation.node,
        "rdzv-backend": "static",
        "rdzv-id": f"{allocation.job_id}.{allocation.step}.{allocation.restart}",
        "rdzv-endpoint": f"{head.ip}:{head.port}",
        "rdzv-conf": f"timeout={allocation.timeout_s}",
        "local-addr": local_ip(head.ip) or head.ip,  # else torchrun asks DNS for this node's name
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    verbatim = [word.replace("$", "$$") for word in command[1:]]  # torchrun fills in ${local_rank} and the like
    return [command[0], "-m", "nemo_runspec.launch.elastic", *words, *verbatim]


def gloo_environment(allocation: Allocation, head: Head, environ: Mapping[str, str]) -> dict[str, str]:
    """Names the interface that faces the head: gloo looks the host's name up, which may not resolve or be 127.0.0.1."""
    interface = local_addresses().get(local_ip(head.ip) or "")
    if allocation.num_nodes == 1 or interface is None or "GLOO_SOCKET_IFNAME" in environ:
        return {}
    return {"GLOO_SOCKET_IFNAME": interface}


def main(argv: Sequence[str]) -> int:
    """Run torchrun to its end."""
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(argv))  # type: ignore[no-untyped-call]  # torch types neither
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
        sys.stderr.write(f"rank {rank} ended first, with exit code {code}\n")
        return code
    except SignalException as error:
        return 128 + int(error.sigval)
    except DistError as error:
        sys.stderr.write(f"error: the nodes did not meet: {' '.join(str(error).split())}\n")
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
