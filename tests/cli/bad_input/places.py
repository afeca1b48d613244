"""Profiles and env.toml, and the variables of the environment."""

from bad_input.row import HERE, bad, profile, slurm

DATA = "nano3 data prep pretrain -c tiny"
ENV_FILE = (
    bad("no-env-toml", f"{DATA} --run lab", "profile 'lab'", "no env.toml in <project>", "table [lab]"),
    bad("no-env-toml-batch", f"{DATA} --batch lab", "profile 'lab'", "no env.toml in <project>", "table [lab]"),
    bad("no-env-toml-dry-run", f"{DATA} -r lab -d", "profile 'lab'", "no env.toml", "table [lab]", shows=True),
    bad("no-env-toml-stage", f"{DATA} -r lab --stage", "profile 'lab'", "no env.toml in <project>", "table [lab]"),
    profile(
        "profile-unknown", "", "profile 'lba' not found", "have: lab", "mean 'lab'?", "[lba]", command=f"{DATA} -r lba"
    ),
    profile("env-toml-bad", "executor = local", "env.toml: bad TOML", "line 2"),
    bad("env-toml-binary", f"{DATA} -r lab", "env.toml", "not UTF-8", files={"env.toml": b"\xff\xfe"}),
    bad("env-toml-is-a-directory", f"{DATA} -r lab", "no env.toml", "table [lab]", files={"env.toml/x": ""}),
    bad("profile-no-table", f"{DATA} -r lab", "lab = 7", "expected a table [lab]", files={"env.toml": "lab = 7\n"}),
    bad("profile-is-settings", f"{DATA} -r wandb", "profile 'wandb'", "have: none", files={"env.toml": "[wandb]\n"}),
    bad("wandb-no-table", DATA, "wandb = 7", "expected a table [wandb]", files={"env.toml": "wandb = 7\n"}),
    profile("extends-unknown", 'extends = "bsae"\n[base]', "'lab' extends 'bsae'", "have: lab, base", "mean 'base'?"),
    profile(
        "extends-cyclic", 'extends = "b"\n[b]\nextends = "lab"', "cyclic extends: lab → b → lab", "'lab'", "remove one"
    ),
    profile("extends-number", "extends = 7", "profile 'lab' extends 7", "have: lab"),
    profile(
        "variable-unset", 'account = "${oc.env:NO_SUCH}"', "${oc.env:NO_SUCH}", "not set", "profile 'lab'", "set it"
    ),
    bad(
        "env-file-missing",
        f"{DATA} -r lab",
        "/no/env.toml",
        "$NEMOTRON_ENV_FILE",
        "unset",
        env={"NEMOTRON_ENV_FILE": "/no/env.toml"},
    ),
)
FIELDS = (
    profile("field-unknown", "ndoes = 2", "'lab'", "ndoes = 2", "no such field", "mean 'nodes'?", "Correct this"),
    profile(
        "executor-unknown",
        'executor = "slrum"',
        "'lab'",
        "executor = 'slrum'",
        "allowed: local, slurm",
        "mean 'slurm'?",
    ),
    profile("executor-number", "executor = 7", "'lab'", "executor = 7", "expected a valid string", "Correct this"),
    slurm("nodes-zero-in-a-profile", "nodes = 0", "'lab'", "nodes = 0", "greater than or equal to 1", "Correct this"),
    slurm("nodes-text", 'nodes = "two"', "'lab'", "nodes = 'two'", "expected a valid integer", "Correct this"),
    slurm("nodes-bool", "nodes = true", "'lab'", "nodes = True", "expected a number", "Correct this"),
    slurm("gpus-negative", "gpus_per_node = -1", "gpus_per_node = -1", "greater than or equal to 0", "Correct this"),
    slurm("tasks-zero", "ntasks_per_node = 0", "ntasks_per_node = 0", "greater than or equal to 1", "Correct this"),
    slurm("processes-zero", "nproc_per_node = 0", "nproc_per_node = 0", "greater than or equal to 1", "Correct this"),
    slurm("cpus-zero", "cpus_per_task = 0", "cpus_per_task = 0", "greater than or equal to 1", "Correct this"),
    slurm("time-bad", 'time = "4 hours"', "time = '4 hours'", "H:M:S", "as 04:00:00", "Correct this"),
    slurm("time-seconds", "time = 3600", "time = 3600", "in quotes", "1:00:00"),
    slurm("mem-bad", 'mem = "64 GB"', "mem = '64 GB'", "K, M, G or T, as 64G", "Correct this"),
    slurm("mounts-comma", 'mounts = ["/a:/b,/c"]', "mounts", "'/a:/b,/c' has a comma", "expected SRC:DST"),
    slurm("mounts-text", 'mounts = "/a:/b"', "mounts = '/a:/b'", "expected a valid tuple", "Correct this"),
    slurm("env-vars-bad-name", 'env_vars = { "1A" = "x" }', "env_vars", "'1A'", "letters, digits and _"),
    slurm("env-vars-bad-value", "env_vars = { A = [1] }", "env_vars", "A is of type list", "expected text, a number"),
    slurm("env-vars-text", 'env_vars = "A=1"', "env_vars", "expected a table of names and values"),
    slurm("sbatch-dashes", 'sbatch = { "--gres" = "x" }', "'--gres'", "without its dashes", "write it as 'gres'"),
    slurm("sbatch-ours", 'sbatch = { output = "x" }', "option 'output'", "set for each job by nemotron", "remove it"),
    slurm("sbatch-field", "sbatch = { nodes = 2 }", "option 'nodes'", "a field of its own", "set nodes instead"),
    slurm("sbatch-list", "sbatch = { gres = [1] }", "option 'gres' = [1]", "expected text"),
    slurm("partition-two-lines", 'partition = "a\\nb"', "partition", "'a\\nb'", "expected one line"),
    slurm("account-empty", 'account = ""', "account = ''", "not empty", "Correct this"),
    slurm("account-backslash", 'account = "a\\\\b"', "account", "backslash", "Correct this"),
    slurm("tunnel-unknown", 'tunnel = "shs"', "tunnel = 'shs'", "'local' or 'ssh'", "mean 'ssh'?"),
    slurm("tunnel-without-host", 'tunnel = "ssh"', 'tunnel = "ssh"', "needs host", "name of the login node"),
    slurm("host-is-an-option", 'tunnel = "ssh"\nhost = "-oX"', "host = '-oX'", "option", "no dash at its start"),
    slurm("port-too-high", "port = 70000", "port = 70000", "less than or equal to 65535", "Correct this"),
    slurm("job-dir-relative", 'remote_job_dir = "jobs"', "remote_job_dir = 'jobs'", "expected an absolute path"),
    slurm("job-dir-spaces", 'remote_job_dir = "/a b"', "remote_job_dir = '/a b'", "letters, digits"),
    slurm("submitter-unknown", 'submitter = "nemorun"', "submitter = 'nemorun'", "'submitit' or 'nemo-run'", "mean"),
    slurm("retries-negative", "failure_retries = -1", "failure_retries = -1", "greater than or equal to 0"),
    slurm("poll-too-often", "poll_interval_s = 0", "poll_interval_s = 0", "greater than or equal to 1"),
    slurm("exclusive-text", 'exclusive = "very"', "exclusive = 'very'", "expected a valid boolean"),
    slurm("packager-unknown-in-a-profile", 'packager = "zip"', "packager = 'zip'", "allowed: pattern, code"),
    slurm("sbatch-twice", "sbatch = {}\nadditional_parameters = {}", "additional_parameters", "keep one of them"),
    profile("two-problems", "ndoes = 2\nnodes = 0", "ndoes = 2", "nodes = 0", "Correct this"),
)
FOREIGN = tuple(
    profile(
        f"executor-{name}",
        f'executor = "{name}"',
        "profile 'lab'",
        f"executor '{name}'",
        "allowed: local, slurm",
        "Choose",
    )
    for name in ("docker", "dgxcloud", "lepton", "skypilot", "kubeflow")
)
VARIABLES = (
    bad(
        "poll-interval-bad",
        DATA,
        "NEMOTRON_POLL_INTERVAL_S = 'often'",
        "valid number",
        "unset",
        env={"NEMOTRON_POLL_INTERVAL_S": "often"},
    ),
    bad(
        "poll-interval-zero",
        DATA,
        "NEMOTRON_POLL_INTERVAL_S = '0'",
        "greater than",
        "unset",
        env={"NEMOTRON_POLL_INTERVAL_S": "0"},
    ),
    bad(
        "store-is-a-file",
        DATA,
        "<project>/store",
        "NEMOTRON_STORE",
        env={"NEMOTRON_STORE": f"{HERE}/store"},
        files={"store": ""},
    ),
    bad(
        "store-below-a-file",
        DATA,
        "<project>/f/store",
        "NEMOTRON_STORE",
        env={"NEMOTRON_STORE": f"{HERE}/f/store"},
        files={"f": ""},
    ),
    bad(
        "store-of-another-format",
        DATA,
        "format.json",
        "{'format': 9}",
        "allowed: ",
        "another NEMOTRON_STORE",
        files={".nemotron/artifacts/format.json": '{"format": 9}'},
    ),
    bad(
        "store-of-nobody",
        "artifacts list",
        "~nobody-is-called-so/x",
        "NEMOTRON_STORE",
        env={"NEMOTRON_STORE": "~nobody-is-called-so/x"},
    ),
    bad(
        "home-is-a-file-and-the-store-elsewhere",
        DATA,
        "<project>/.nemotron/runs",
        "nothing was started",
        env={"NEMOTRON_STORE": f"{HERE}/s"},
        files={".nemotron": ""},
    ),
    bad("home-is-a-file", DATA, "<project>/.nemotron", "Not a directory", "NEMOTRON_STORE", files={".nemotron": ""}),
)
ENV_COMMANDS = (
    profile("env-show-unknown", "", "profile 'lba' not found", "have: lab", "mean 'lab'?", command="env show lba"),
    profile("env-check-unknown", "", "profile 'lba' not found", "have: lab", "mean 'lab'?", command="env check lba"),
    profile("env-check-bad", "nodes = 0", "'lab'", "nodes = 0", "Correct this", command="env check lab"),
    profile("env-list-bad", "a = b", "env.toml: bad TOML", "line 2", command="env list"),
    profile("env-import-without-api", "", "no Prefect API", "set PREFECT_API_URL", command="env import"),
    profile("env-export-without-api", "", "no Prefect API", "set PREFECT_API_URL", command="env export"),
)
ROWS = (*ENV_FILE, *FIELDS, *FOREIGN, *VARIABLES, *ENV_COMMANDS)
