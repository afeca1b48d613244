"""Runs that are not there, have ended, or whose record cannot be read."""

from bad_input.row import bad, run_record

OLD, DONE, TWIN, TORN = (f"20260101-00000{n}-aaaaaaa{n}" for n in range(4))
RUNS = {
    f".nemotron/runs/{OLD}.json": run_record(OLD, overrides=["nope=1"]),
    f".nemotron/runs/{DONE}.json": run_record(DONE),
    f".nemotron/runs/{DONE}.code": "0",
    f".nemotron/runs/{TWIN}.json": run_record(TWIN, script="/no/such/script.py"),
}
BROKEN = {f".nemotron/runs/{TORN}.json": '{"run_id": '}
ROWS = (
    *(
        bad(f"runs-{name}-none", f"runs {name} x", "no runs in <project>", "nemotron nano3 sft")
        for name in ("show", "logs", "cancel", "attach", "retry")
    ),
    *(
        bad(f"runs-{name}-unknown", f"runs {name} x", "no run 'x'", "newest: ", OLD, files=RUNS)
        for name in ("show", "logs", "cancel", "attach", "retry")
    ),
    *(
        bad(
            f"runs-{name}-ambiguous",
            f"runs {name} 20260101",
            "'20260101'",
            "3 runs are named so",
            OLD,
            "give more of the id",
            files=RUNS,
        )
        for name in ("show", "cancel", "retry")
    ),
    *(
        bad(
            f"runs-{name}-damaged",
            f"runs {name} {TORN}",
            f"{TORN}.json",
            "not the record of a run",
            "remove it",
            files=BROKEN,
        )
        for name in ("show", "logs", "cancel", "attach", "retry")
    ),
    bad("runs-show-only-damaged", "runs show", f"{TORN}.json", "not the record of a run", "remove it", files=BROKEN),
    bad(
        "runs-show-list",
        f"runs show {TORN}",
        "not the record of a run",
        "remove it",
        files={f".nemotron/runs/{TORN}.json": "[1]"},
    ),
    bad(
        "runs-show-other-record",
        f"runs show {TORN}",
        "not the record of a run",
        "remove it",
        files={f".nemotron/runs/{TORN}.json": '{"a": 1}'},
    ),
    bad("runs-cancel-ended", f"runs cancel {DONE}", DONE, "has ended: done", "nothing to cancel", files=RUNS),
    bad(
        "runs-attach-ended",
        f"runs attach {DONE}",
        DONE,
        "has ended: done",
        f"runs logs {DONE}",
        f"runs retry {DONE}",
        files=RUNS,
    ),
    bad(
        "runs-retry-bad-override",
        f"runs retry {OLD}",
        "nope.a=1",
        "unknown stage 'nope'",
        "have: ",
        files={**RUNS, f".nemotron/runs/{OLD}.json": run_record(OLD, recipe="nano3", overrides=["nope.a=1"])},
    ),
    bad("runs-retry-script-gone", f"runs retry {TWIN}", TWIN, "/no/such/script.py is gone", "put it back", files=RUNS),
    bad(
        "runs-attach-script-gone", f"runs attach {TWIN}", TWIN, "/no/such/script.py is gone", "put it back", files=RUNS
    ),
    bad(
        "runs-retry-keeps-the-end",
        f"runs retry {DONE}",
        "config 'nope'",
        "have: ",
        files={**RUNS, f".nemotron/runs/{DONE}.json": run_record(DONE, recipe="nano3", config="nope")},
    ),
    bad("runs-logs-stage", f"runs logs {DONE} --stage stf", "--stage stf", DONE, "have: none yet", files=RUNS),
    bad("runs-list-zero", "runs list -n 0", "'-n'", "got '0'", "equal to 1", "nemotron runs list --help"),
    bad("runs-list-text", "runs list -n x", "'-n'", "'x'", "valid integer", "nemotron runs list --help"),
    bad(
        "runs-cancel-wait",
        f"runs cancel {OLD} --wait-s -1",
        "--wait-s",
        "got '-1'",
        "equal to 0",
        "runs cancel --help",
        files=RUNS,
    ),
)
