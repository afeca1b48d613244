"""One recipe command: what it shows in its help, and what the shell completes. Its arguments are parsed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from nemo_runspec.errors import RunspecError
from nemo_runspec.help_panels import Panel, PanelCommand

ListProfiles = Callable[[], Sequence[Sequence[str]]]
"""Gives a row for each profile: its name, what it is, where it comes from."""

CompleteArtifact = Callable[[str], list[str]]
"""Gives the artifact references that begin so."""
SUFFIXES = (".yaml", ".yml")
GLOBAL_OPTIONS = (
    ("-c, --config NAME|PATH", "A config of the recipe (see below), or a YAML file"),
    ("-r, --run PROFILE", "Run it where the profile says and stay: shows the log, exits with the job's result"),
    ("-b, --batch PROFILE", "Run it where the profile says and return at once; prints the run's id"),
    ("-d, --dry-run", "Show the config, where its values come from, the job and what is reused; do nothing"),
    ("--stage", "Copy code and configs to the place of the profile and start nothing"),
    ("--refresh", "Run it even if its artifact is there"),
    ("--force-squash", "Make the squash file of the container image anew"),
    ("--debug", "Show the traceback of an error"),
    ("-h, --help", "Show this text"),
)
RUN_OVERRIDES = (
    ("run.env.nodes=N", "Nodes of the job"),
    ("run.env.gpus_per_node=N", "GPUs on each node"),
    ("run.env.nproc_per_node=N", "Processes on each node"),
    ("run.env.time=HH:MM:SS", "Time limit of one job; a stage that needs more goes on in the next"),
    ("run.env.partition=NAME", "Partition; also account, qos, constraint, mem and all other fields of a profile"),
    ("run.env.container_image=IMAGE", "Container image"),
    ("run.env.env_vars.NAME=VALUE", "Environment variable of the job"),
    ("run.env.packager=NAME", "What code travels: pattern, code, self_contained"),
)


@dataclass(frozen=True)
class RecipeMeta:
    """What a command shows and completes. `input_artifacts` and `output_artifacts` go from slot to type.

    A pipeline has `stages`; its overrides begin with the name of one.
    """

    name: str
    script_path: str | Path
    config_dir: str | Path
    default_config: str = "default"
    input_artifacts: Mapping[str, str] = field(default_factory=dict)
    output_artifacts: Mapping[str, str] = field(default_factory=dict)
    config_model: type[Any] | None = None
    stages: tuple[str, ...] = ()


def config_names(folder: str | Path) -> list[str]:
    """The names of the configs in that directory."""
    path = Path(folder)
    found = path.iterdir() if path.is_dir() else ()
    return sorted({file.stem for file in found if file.suffix in SUFFIXES})


def complete_config(ctx: typer.Context, incomplete: str) -> list[str]:
    """The configs of the command that begin so."""
    command = ctx.command
    names = config_names(command.meta.config_dir) if isinstance(command, RecipeCommand) else []
    return [name for name in names if name.startswith(incomplete)]


def complete_profile(ctx: typer.Context, incomplete: str) -> list[str]:
    """The profiles that begin so."""
    list_profiles = type(ctx.command).list_profiles if isinstance(ctx.command, RecipeCommand) else None
    names = [row[0] for row in list_profiles()] if list_profiles else []
    return [name for name in names if name and name.startswith(incomplete)]


class RecipeCommand(PanelCommand):
    """A command that leaves its arguments to `parse_recipe_config`; the rest is its class's, see `RecipeTyper`."""

    meta: RecipeMeta
    list_profiles: ListProfiles | None
    complete_artifact: CompleteArtifact | None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help if it is asked for before a `--`; else keep the arguments as they are."""
        ours = args[: args.index("--")] if "--" in args else args
        if not ctx.resilient_parsing and not set(ours).isdisjoint({"-h", "--help"}):
            typer.echo(ctx.get_help())
            ctx.exit()
        kept = list(args)
        ctx.args = kept
        ctx.params = {"config": None, "run": None, "batch": None, "dry_run": False, "stage": False}
        ctx.params |= {"force_squash": False, "refresh": False}
        return kept

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """See `click.Command`."""
        if self.meta.stages:
            return ["[OPTIONS]", "[STAGE.KEY=VALUE]..."]
        return ["[OPTIONS]", "[KEY=VALUE]...", "[-- ARGS]"]

    def panels(self, ctx: Any) -> list[Panel]:
        """See `PanelCommand`."""
        profiles = type(self).list_profiles
        rows = list(profiles()) if profiles else []
        return [
            Panel(title="Global Options", rows=GLOBAL_OPTIONS),
            Panel(title="Configs", rows=_config_rows(self.meta)),
            Panel(title="Artifact Overrides", rows=_artifact_rows(self.meta)),
            Panel(title="Stages", rows=[(stage, f"{stage}.KEY=VALUE") for stage in self.meta.stages]),
            Panel(title="Run Overrides", rows=_run_rows(self.meta)),
            Panel(title="env.toml Profiles", rows=rows or [("none", "Write env.toml; docs/slurm.md has its fields")]),
            Panel(title="Examples", rows=_example_rows(ctx.command_path, self.meta, [row[0] for row in rows])),
        ]

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Options, and keys of the config; after `run.SLOT=` artifacts."""
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(word) for word in self.complete_override(ctx.args, incomplete)]

    def complete_override(self, args: Sequence[str], incomplete: str) -> list[str]:
        """The overrides that begin so; none where the config cannot be read."""
        if self.meta.stages:
            return [f"{stage}." for stage in self.meta.stages if stage.startswith(incomplete)]
        key, equals, begun = incomplete.partition("=")
        if equals:
            complete = type(self).complete_artifact if key.removeprefix("run.") in self.meta.input_artifacts else None
            return [f"{key}={name}" for name in complete(begun)] if complete else []
        fixed = [row[0].partition("=")[0] for row in (*_artifact_rows(self.meta), *RUN_OVERRIDES) if "=" in row[0]]
        keys = [*fixed, *_config_keys(self.meta, args)]
        return [f"{each}=" for each in dict.fromkeys(keys) if each.startswith(incomplete)]


def _config_keys(meta: RecipeMeta, args: Sequence[str]) -> list[str]:
    """The dotted keys of the config that the arguments name."""
    from nemo_runspec.cli_context import split_unknown_args
    from nemo_runspec.config.loading import find_config_file, load_config
    from nemo_runspec.config.origins import leaf_keys

    try:
        name = split_unknown_args(args)[2].config or meta.default_config
        return leaf_keys(load_config(find_config_file(name, meta.config_dir)))
    except (RunspecError, OSError):
        return []


def command_class(
    meta: RecipeMeta, list_profiles: ListProfiles | None, complete_artifact: CompleteArtifact | None
) -> type[RecipeCommand]:
    """The class of the command that `meta` describes: Typer makes the object of it."""
    own = {
        "meta": meta,
        "list_profiles": staticmethod(list_profiles) if list_profiles else None,
        "complete_artifact": staticmethod(complete_artifact) if complete_artifact else None,
    }
    return type("RecipeCommand", (RecipeCommand,), own)


def _run_rows(meta: RecipeMeta) -> list[tuple[str, str]]:
    prefix = "STAGE." if meta.stages else ""
    return [(f"{prefix}{override}", about) for override, about in RUN_OVERRIDES]


def _config_rows(meta: RecipeMeta) -> list[tuple[str, str]]:
    rows = []
    for name in config_names(meta.config_dir):
        mark = "  (default)" if name == meta.default_config else ""
        rows.append((name, f"{_first_comment(_config_path(meta, name), meta)}{mark}".strip()))
    return rows


def _config_path(meta: RecipeMeta, name: str) -> Path:
    paths = [Path(meta.config_dir) / f"{name}{suffix}" for suffix in SUFFIXES]
    return next(path for path in paths if path.is_file())


def _first_comment(path: Path, meta: RecipeMeta) -> str:
    """The comment at the head of a YAML file, its first line."""
    if meta.stages:  # each stage has its own of that name
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline().strip()
    return line.lstrip("# ").strip() if line.startswith("#") else ""


def _artifact_rows(meta: RecipeMeta) -> list[tuple[str, str]]:
    takes = [(f"run.{slot}=NAME:VERSION", f"takes a {kind}") for slot, kind in meta.input_artifacts.items()]
    gives = [(f"{name}:vN", f"is what it makes, a {kind}") for name, kind in meta.output_artifacts.items()]
    return [*takes, *gives]


def _example_rows(command: str, meta: RecipeMeta, profiles: Sequence[str]) -> list[tuple[str]]:
    names = [name for name in config_names(meta.config_dir) if name != meta.default_config]
    config = f" -c {names[-1]}" if names else ""
    profile = profiles[0] if profiles else "my-cluster"
    prefix = f"{meta.stages[-1]}." if meta.stages else ""
    return [
        (f"{command}{config}",),
        (f"{command}{config} --dry-run",),
        (f"{command}{config} --run {profile} {prefix}run.env.nodes=2",),
        (f"{command}{config} --batch {profile}",),
    ]
