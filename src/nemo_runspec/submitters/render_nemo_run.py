# /// script
# requires-python = ">=3.11,<3.13"
# # leptonai 0.40 and later have no leptonai.api.v1, which nemo-run 0.11.1 imports.
# dependencies = ["nemo-run==0.11.1", "leptonai<0.40", "omegaconf>=2.4,<2.5"]
# ///
"""Batch scripts as NeMo-Run writes them: reads specs as JSON on stdin, writes the texts as JSON on stdout.

Run by with_nemo_run.py in an environment of its own, since NeMo-Run and Prefect cannot share one. Everything that
NeMo-Run prints goes to stderr. NeMo-Run writes values as they are into the shell's text, fills in `$name` and moves
/nemo_run; so it gets a word in place of each value, and the value comes in afterwards.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_runspec.execution import create_executor
from nemo_runspec.slurm.spec import JOB_DIR, JobSpec, node_command
from nemo_runspec.submitters.script_text import WORD_FIELDS, container_mounts, drop_directives, quote, tasks_per_node

# Of one job: two on a node must not meet. Above the registered ports, below those that Linux hands out itself.
_PORT = "$((20000 + SLURM_JOB_ID % 10000))"
# NeMo-Run takes `hostname --ip-address` of the first node: that may be several addresses, or a loopback one (Debian).
_HEAD_NODE_LINES = (
    "head_node_ip=${head_node_ip%% *}",
    'case $head_node_ip in 127.*) ! getent hosts "$head_node" >/dev/null || head_node_ip=$head_node ;; esac',
)


def main() -> None:
    """Answer one request."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    specs = [_parse_spec(fields) for fields in json.load(sys.stdin)]
    with answer:
        json.dump(render(specs), answer)


def render(specs: list[JobSpec]) -> list[str]:
    """The batch script of each spec, out of one experiment that is not submitted; writes below $NEMORUN_HOME."""
    import nemo_run as run  # type: ignore[import-not-found]  # only in this script's own environment

    words = [_Words() for _ in specs]
    with run.Experiment("render") as experiment:
        for number, (spec, hidden) in enumerate(zip(specs, words, strict=True)):
            task, launcher = _build_task(spec, hidden, run)
            executor = create_executor(_build_profile(spec, hidden), {}, run.Packager())
            executor.launcher = launcher
            # srun(1): --wait=60, which NeMo-Run gives, ends the other tasks a minute after the first has ended well.
            executor.srun_args = ["--wait=0", *_cpus(spec)]
            experiment.add(task, executor=executor, name=f"s{number}")
        if specs:
            experiment.dryrun(log=False, delete_exp_dir=False)
        jobs = list(experiment.jobs)
    return [
        hidden.put_back(_clean(_read(job), spec, hidden, job.executor))
        for spec, hidden, job in zip(specs, words, jobs, strict=True)
    ]


class _Words:
    """Plain words that stand for text while NeMo-Run handles it."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def hide(self, text: str) -> str:
        self._texts.append(text)
        return f"nemotron{len(self._texts) - 1}word"

    def quoted(self, value: str | None) -> str | None:
        return None if value is None else self.hide(quote(value))

    def put_back(self, script: str) -> str:
        return re.sub(r"nemotron(\d+)word", lambda match: self._texts[int(match[1])], script)


def _build_profile(spec: JobSpec, words: _Words) -> dict[str, Any]:
    options = {
        name: value if isinstance(value, bool) else words.quoted(str(value)) for name, value in spec.sbatch.items()
    }
    lines = (*_HEAD_NODE_LINES, *spec.setup_lines) if _needs_rendezvous(spec) else spec.setup_lines
    return {
        "executor": "slurm",
        "nodes": spec.nodes,
        "ntasks_per_node": tasks_per_node(spec),
        "nproc_per_node": spec.nproc_per_node,
        "gpus_per_node": spec.gpus_per_node,
        "cpus_per_task": spec.cpus_per_task,
        "exclusive": spec.exclusive,
        **{name: words.quoted(vars(spec)[name]) for name in (*WORD_FIELDS, "mem", "container_image")},
        "time": words.quoted(spec.time_limit),
        "mounts": [words.quoted(mount) for mount in container_mounts(spec)],
        "setup_lines": [words.hide("\n".join(lines))] if lines else [],
        "sbatch": options,
    }


def _build_task(spec: JobSpec, words: _Words, run: Any) -> tuple[Any, Any]:
    """NeMo-Run's script and launcher; a path with arguments, because an inline script would be a file of its own."""
    if _uses_torchrun(spec):
        module = spec.command[1] == "-m"
        # torch.distributed.elastic.agent.server.api.WorkerSpec: torchrun fills in `${local_rank}` and halves `$$`.
        path, *arguments = (word.replace("$", "$$") for word in spec.command[2 if module else 1 :])
        script = run.Script(
            path=words.quoted(path), args=[words.quoted(word) for word in arguments], entrypoint="python", m=module
        )
        return script, run.Torchrun(rdzv_port=words.hide(_PORT), rdzv_id=words.hide("$SLURM_JOB_ID"))
    first, *others = (words.quoted(word) for word in node_command(spec))
    return run.Script(path=others[0], args=others[1:], entrypoint=first), None


def _uses_torchrun(spec: JobSpec) -> bool:
    """Whether torchrun of NeMo-Run can start it: a script or a module, with nothing to do before."""
    if spec.launcher != "torchrun" or spec.startup_commands or len(spec.command) < 2:
        return False
    return not spec.command[1].startswith("-") or (spec.command[1] == "-m" and len(spec.command) > 2)


def _needs_rendezvous(spec: JobSpec) -> bool:
    return _uses_torchrun(spec) and spec.nodes > 1


def _cpus(spec: JobSpec) -> list[str]:
    # srun(1), 22.05: srun no longer takes it from the job.
    return [f"--cpus-per-task={spec.cpus_per_task}"] if spec.cpus_per_task else []


def _read(job: Any) -> str:
    return (Path(job.executor.experiment_dir) / f"{job.id}_sbatch.sh").read_text(encoding="utf-8")


def _clean(script: str, spec: JobSpec, words: _Words, executor: Any) -> str:
    """The script with an attempt's directory for NeMo-Run's, without tracing, log files and variables of its own."""
    folder = Path(executor.tunnel.job_dir, Path(executor.job_dir).name)
    script = drop_directives(script.replace(str(folder), JOB_DIR))
    script = _replace_once(r"^# Run with: .*\n#\n", "", script)
    script = _replace_once(r"^set -evx$", "set -e", script)
    script = _replace_once(r"^srun --output \S+ ", "srun ", script)
    script = re.sub(r"(?m)^export LOGLEVEL=.*\n", "", script)
    if _uses_torchrun(spec):
        # torchrun of the script's own interpreter, ending with the script's exit code.
        python = words.quoted(spec.command[0])
        script = _replace_once(r" torchrun (?=--rdzv-backend)", f" {python} -m nemo_runspec.launch.elastic ", script)
    return f"{script}\n"


def _replace_once(pattern: str, replacement: str, script: str) -> str:
    replaced, number = re.subn(f"(?m){pattern}", lambda _: replacement, script)
    if number != 1:
        raise RuntimeError(
            f"NeMo-Run's script has {number} times {pattern!r}, expected once; is it another version?\n{script}"
        )
    return replaced


def _parse_spec(fields: Mapping[str, Any]) -> JobSpec:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return JobSpec(**values)


if __name__ == "__main__":
    main()
