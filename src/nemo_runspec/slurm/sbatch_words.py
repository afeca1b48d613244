"""What sbatch's options, job scripts and directories may hold: said once for profiles, submitters and jobs. Pure."""

from __future__ import annotations

import re

# sbatch(1): set for each job by nemotron, or they would change what a job is and how it is found.
OWN_OPTIONS = frozenset(
    {
        *("job-name", "output", "error", "open-mode", "requeue", "no-requeue", "parsable", "wrap", "array", "signal"),
        *("comment", "chdir", "export", "kill-on-invalid-dep", "wait", "test-only"),
    }
)
# sbatch(1): long options that a field of a profile stands for.
FIELD_OPTIONS = {
    name.replace("_", "-"): name
    for name in (
        *("account", "partition", "qos", "constraint", "reservation", "nodelist", "exclude", "exclusive"),
        *("nodes", "ntasks_per_node", "gpus_per_node", "cpus_per_task", "mem", "time"),
    )
}
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
JOB_PATH = re.compile(r"/[A-Za-z0-9._/+:@=,-]*")
"""A path that survives sbatch's own patterns and a shell unquoted."""
