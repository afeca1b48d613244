"""Artifacts, runs, and recipes of the user's own."""

from bad_input.row import bad, recipe, run_record

SFT = "nano3 sft -c tiny"
ARTIFACTS = (
    bad("artifact-none", SFT, "'nano3-sft-data'", "have: none", "Run the stage that makes it", "NEMOTRON_STORE"),
    bad("artifact-unknown", f"{SFT} run.model=nano3-rl-model", "'nano3-rl-model'", "have: nano3", "mean", store=True),
    bad("artifact-version-unknown", f"{SFT} run.data=nano3-sft-data:v7", "'v7'", "have: v0", "latest, best", store=True),
    bad("artifact-alias-unknown", f"{SFT} run.data=nano3-sft-data:bets", "'bets'", "latest, best", "mean 'best'?", store=True),
    bad("artifact-malformed", f"{SFT} 'run.data=a b:c'", "'a b:c' is malformed", "give NAME, NAME:vN", store=True),
    bad("artifact-empty", f"{SFT} run.data=", "run.data is not set", "run.data=NAME:VERSION", "SFTDataArtifact", store=True),
    bad("artifact-of-another-type", f"{SFT} run.data=nano3-pretrain-model:v0", "nano3-pretrain-model:v0 is a ModelArtifact", "expected SFTDataArtifact", "of that type: nano3-sft-data", store=True),
    bad("slot-unknown", f"{SFT} run.modle=nano3-pretrain-model:v0", "'run.modle'", "have under run: data, model", "mean 'run.model'?", store=True),
    bad("slot-is-a-list", f"{SFT} 'run.data=[1]'", "run.data", "text", "a list", store=True),
    bad("artifact-damaged", SFT, "nano3-pretrain-model:v0", "v0.json is not a version record", store=True, files={".nemotron/artifacts/artifacts/nano3-pretrain-model/versions/v1.json": "{}"}),
    bad("artifacts-show-unknown", "artifacts show nano3-sft-dtaa", "'nano3-sft-dtaa'", "have: nano3", "mean 'nano3-sft-data'?", store=True),
    bad("artifacts-show-malformed", "artifacts show a:b:c", "'a:b:c' is malformed", "give NAME, NAME:vN"),
    bad("artifacts-show-version", "artifacts show nano3-sft-data:v9", "'v9'", "have: v0", store=True),
    bad("artifacts-lineage-unknown", "artifacts lineage x", "'x'", "have: none", "NEMOTRON_STORE"),
    bad("artifacts-lineage-malformed", "artifacts lineage -- -x", "'-x' is malformed", "give NAME, NAME:vN"),
    bad("artifacts-verify-unknown", "artifacts verify x", "'x'", "have: none", "NEMOTRON_STORE"),
    bad("artifacts-verify-malformed", "artifacts verify ''", "'' is malformed", "give NAME, NAME:vN"),
    bad("artifacts-list-unknown", "artifacts list x", "'x'", "have: nano3", store=True),
    bad("artifacts-list-malformed", "artifacts list a/b", "'a/b' is malformed", "letters, digits"),
    bad("artifacts-list-type", "artifacts list --type ModleArtifact", "--type 'ModleArtifact'", "have: ModelArtifact", "mean", store=True),
    bad("artifacts-store-is-a-file", "artifacts list --store f", "<project>/f", "--store", files={"f": ""}),
    bad("artifacts-gc-wait", "artifacts gc --wait-s soon", "--wait-s", "'soon'", "valid float", "artifacts gc --help"),
)
OLD, DONE, TWIN, TORN = (f"20260101-00000{n}-aaaaaaa{n}" for n in range(4))
RUNS = {
    f".nemotron/runs/{OLD}.json": run_record(OLD, overrides=["nope=1"]),
    f".nemotron/runs/{DONE}.json": run_record(DONE),
    f".nemotron/runs/{DONE}.code": "0",
    f".nemotron/runs/{TWIN}.json": run_record(TWIN, script="/no/such/script.py"),
}
BROKEN = {f".nemotron/runs/{TORN}.json": '{"run_id": '}
RUN_ROWS = (
    *(bad(f"runs-{name}-none", f"runs {name} x", "no runs in <project>", "nemotron nano3 sft") for name in ("show", "logs", "cancel", "attach", "retry")),
    *(bad(f"runs-{name}-unknown", f"runs {name} x", "no run 'x'", "newest: ", OLD, files=RUNS) for name in ("show", "logs", "cancel", "attach", "retry")),
    *(bad(f"runs-{name}-ambiguous", f"runs {name} 20260101", "'20260101'", "3 runs are named so", OLD, "more of it", files=RUNS) for name in ("show", "cancel", "retry")),
    *(bad(f"runs-{name}-damaged", f"runs {name} {TORN}", f"{TORN}.json", "not the record of a run", "remove it", files=BROKEN) for name in ("show", "logs", "cancel", "attach", "retry")),
    bad("runs-show-only-damaged", "runs show", f"{TORN}.json", "not the record of a run", "remove it", files=BROKEN),
    bad("runs-show-list", f"runs show {TORN}", "not the record of a run", "remove it", files={f".nemotron/runs/{TORN}.json": "[1]"}),
    bad("runs-show-other-record", f"runs show {TORN}", "not the record of a run", "remove it", files={f".nemotron/runs/{TORN}.json": '{"a": 1}'}),
    bad("runs-cancel-ended", f"runs cancel {DONE}", DONE, "has ended: done", "nothing to cancel", files=RUNS),
    bad("runs-attach-ended", f"runs attach {DONE}", DONE, "has ended: done", f"runs logs {DONE}", f"runs retry {DONE}", files=RUNS),
    bad("runs-retry-bad-override", f"runs retry {OLD}", "nope=1", "unknown stage", files={**RUNS, f".nemotron/runs/{OLD}.json": run_record(OLD, recipe="nano3", overrides=["nope.a=1"])}),
    bad("runs-retry-script-gone", f"runs retry {TWIN}", "/no/such/script.py", "no such script", files=RUNS),
    bad("runs-attach-script-gone", f"runs attach {TWIN}", "/no/such/script.py", "no such script", files=RUNS),
    bad("runs-logs-stage", f"runs logs {DONE} --stage stf", "--stage stf", DONE, "have: none yet", files=RUNS),
    bad("runs-list-zero", "runs list -n 0", "'-n'", "0", "x>=1", "nemotron runs list --help"),
    bad("runs-list-text", "runs list -n x", "'-n'", "'x'", "valid integer", "nemotron runs list --help"),
    bad("runs-cancel-wait", f"runs cancel {OLD} --wait-s -1", "--wait-s", "-1", "x>=0", "runs cancel --help", files=RUNS),
)
HELLO = "recipes/hello.py"
RECIPES = (
    bad("recipe-bad-toml", "hello train", "'hello'", f"{HELLO}: bad TOML", "line", files={HELLO: recipe("name = hello/train")}),
    bad("recipe-unknown-key", "hello train", "'hello'", HELLO, "unknown key 'nmae'", "mean 'name'?", files={HELLO: recipe('nmae = "hello/train"')}),
    bad("recipe-unknown-launcher", "hello train", HELLO, "launch = 'tochrun'", "allowed: torchrun", "mean 'torchrun'?", files={HELLO: recipe('name = "hello/train"', launch="tochrun")}),
    bad("recipe-wrong-type", "hello train", HELLO, "name = 7 is a int", "expected str", files={HELLO: recipe("name = 7")}),
    bad("recipe-two-blocks", "hello train", HELLO, "expected one PEP 723 block", "found 2", files={HELLO: recipe('name = "hello/train"') * 2}),
    bad("recipe-not-utf8", "hello train", HELLO, "not UTF-8", files={HELLO: recipe('name = "hello/train"').encode() + b"\xff"}),
    bad("recipe-two-of-a-name", "hello trian", "hello/b.py", "name = 'hello/train'", "hello/a.py, too", "rename", files={f"recipes/hello/{n}.py": recipe('name = "hello/train"') for n in "ab"}),
    bad("recipe-of-our-command", "runs train", HELLO, "name = 'runs/train'", "a command of nemotron", "choose another", files={HELLO: recipe('name = "runs/train"')}),
    bad("recipe-of-our-pipe", "nano3 pipe -c nope", "config 'nope'", files={HELLO: recipe('name = "nano3/pipe"')}),
    bad("recipe-of-one-word", "hello", HELLO, "name = 'hello'", "a recipe and a stage", "choose another", files={HELLO: recipe('name = "hello"')}),
    bad("recipe-with-spaces", "'my hello' train", HELLO, "name = 'my hello/train'", "words separated by '/'", files={HELLO: recipe('name = "my hello/train"')}),
    bad("recipe-command-and-group", "hello train fast", "hello/b.py", "both a command and a group", "hello/a.py", "rename one", files={"recipes/hello/a.py": recipe('name = "hello/train"'), "recipes/hello/b.py": recipe('name = "hello/train/fast"')}),
    bad("recipe-without-configs", "hello train", "config 'default'", "config/default.yaml", "have: none", files={HELLO: recipe('name = "hello/train"')}),
    bad("recipe-with-a-missing-config", "hello train -c big", "config 'big'", "have: small", files={HELLO: recipe('name = "hello/train"'), "recipes/config/small.yaml": "a: 1\n"}),
    bad("recipe-broken-beside-another", "nano3 sft -c nope", "config 'nope'", "have: default, tiny", files={HELLO: recipe("name = ")}),
    bad("recipe-broken-and-a-typo", "nano3 stf", "'stf'", "'sft'", HELLO, files={HELLO: recipe("name = ")}),
)
ROWS = (*ARTIFACTS, *RUN_ROWS, *RECIPES)
