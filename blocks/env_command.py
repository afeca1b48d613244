"""`python -m nemotron.blocks.env_command import|export|list`: profiles between env.toml and Prefect blocks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_runspec.config.provenance import hide_secrets
from nemo_runspec.env_file import find_env_file
from nemo_runspec.errors import ConfigError, RequirementError, RunspecError, did_you_mean
from nemo_runspec.profiles import Profile, format_toml, profile_table
from nemotron.blocks.prefect_api import prefect_api_url
from nemotron.blocks.profile_lookup import load_profile, profile_names

if TYPE_CHECKING:
    from prefect.client.schemas.objects import BlockDocument


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 with `error: …` on stderr when it is refused."""
    args = build_parser().parse_args(argv)
    try:
        url = required_api_url()
        if args.action == "import":
            for line in import_profiles(args.names, url, env_file=args.env_file, overwrite=args.overwrite):
                print(line)  # noqa: T201
        elif args.action == "export":
            print(export_profiles(args.names, url, show_secrets=args.show_secrets), end="")  # noqa: T201
        else:
            print(list_profiles(url))  # noqa: T201
    except RunspecError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m nemotron.blocks.env_command", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    importing = actions.add_parser("import", help="save profiles of env.toml as blocks, all without a NAME")
    importing.add_argument("names", nargs="*", metavar="NAME")
    importing.add_argument("--overwrite", action="store_true", help="replace blocks that exist")
    importing.add_argument("--env-file", type=Path, metavar="F", help="instead of the env.toml in force")
    exporting = actions.add_parser("export", help="print blocks as env.toml, all without a NAME")
    exporting.add_argument("names", nargs="*", metavar="NAME")
    exporting.add_argument("--show-secrets", action="store_true", help="print values whose names look secret")
    actions.add_parser("list", help="the profiles that are blocks")
    return parser


def required_api_url() -> str:
    """The configured API URL; RequirementError without one."""
    url = prefect_api_url()
    if url is None:
        raise RequirementError("no Prefect API is configured; set PREFECT_API_URL, as http://127.0.0.1:4200/api")
    return url


def import_profiles(names: Sequence[str], url: str, *, env_file: Path | None, overwrite: bool) -> Iterator[str]:
    """Save profiles of env.toml as blocks, with a line for each; all are checked before the first is saved."""
    from nemotron.blocks.env_profile import check_saveable, document_name, save_profile

    if find_env_file(env_file) is None:
        raise ConfigError(f"no env.toml in {Path.cwd()} or above; name one with --env-file")
    profiles = {name: load_profile(name, env_file) for name in names or profile_names(env_file)}
    documents: dict[str, str] = {}
    for name in profiles:
        other = documents.setdefault(document_name(name), name)
        if other != name:
            raise ConfigError(
                f"profiles {other!r} and {name!r}: both would be block {document_name(name)!r}; rename one"
            )
        check_saveable(name, url=url, overwrite=overwrite)
    for name, profile in profiles.items():
        saved = save_profile(name, profile, url=url, overwrite=overwrite)
        yield f"saved profile {name} as block {saved}"


def export_profiles(names: Sequence[str], url: str, *, show_secrets: bool) -> str:
    """The profiles in blocks as the text of env.toml.

    Raises:
        ConfigError: no such block, or values that look secret and `show_secrets` is not set.
    """
    documents = stored_documents(url)
    for name in names:
        if name not in documents:
            have = ", ".join(documents) or "none"
            raise ConfigError(f"profile {name!r}: no block on {url}; have: {have}.{did_you_mean(name, documents)}")
    profiles = {name: to_profile(documents[name], url) for name in names or documents}
    secret = [f"{name}.{key}" for name, profile in profiles.items() for key in secret_keys(profile)]
    if secret and not show_secrets:
        raise ConfigError(f"{', '.join(secret)}: named like secrets; give --show-secrets to print them in clear")
    return "\n".join(format_toml(name, profile) for name, profile in profiles.items())


def list_profiles(url: str) -> str:
    """A line for each profile that is a block: its name, its block, its executor or why it cannot be used."""
    lines = []
    for name, document in stored_documents(url).items():
        try:
            said = to_profile(document, url).executor
        except ConfigError as error:
            said = f"unusable: {error}"
        lines.append(f"{name}  {document.name}  {said}")
    return "\n".join(lines) or f"no profiles on {url}"


def stored_documents(url: str) -> dict[str, BlockDocument]:
    """The documents of all profiles' blocks by the profiles' names."""
    from nemotron.blocks.env_profile import list_documents, stored_name

    return {stored_name(document): document for document in list_documents(url)}


def to_profile(document: BlockDocument, url: str) -> Profile:
    """The profile in that document."""
    from nemotron.blocks.env_profile import profile_of

    return profile_of(document, url)


def secret_keys(profile: Profile) -> list[str]:
    """The dotted keys that are named like secrets, by job.yaml's rule for names."""
    return [key for key in _dotted(profile_table(profile)) if hide_secrets({key: "x"})[key] != "x"]


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


if __name__ == "__main__":
    sys.exit(main())
