"""Doctor's look at W&B: whether it is asked for, and whether it would work."""

from __future__ import annotations

from nemo_runspec.checks import Check, passed, warned

NAME = "W&B"


def check_wandb() -> list[Check]:
    """The mirror that env.toml asks for: its client, its key, and whether the server answers."""
    from nemo_runspec.errors import MirrorError
    from nemo_runspec.mirror.follower import is_installed
    from nemo_runspec.mirror.probe import ask_user, only_client_can_tell
    from nemo_runspec.mirror.settings import DEFAULT_URL, parse_wandb_settings
    from nemo_runspec.project import find_project
    from nemotron.blocks.store_settings import find_store_settings, wandb_server, wandb_table

    project = find_project()
    stored = find_store_settings(project)
    settings = parse_wandb_settings({**stored.wandb, **wandb_table(project)}, origin="[wandb]")
    if not settings.is_on:
        return [passed(NAME, "not asked for: no project in [wandb] of env.toml")]
    place = f"{settings.entity or 'the default entity'}/{settings.project} on {settings.base_url}"
    if not is_installed("wandb"):
        return [warned(NAME, f"{place}, and wandb is not installed", "pip install 'nemotron-flows[wandb]'")]
    if settings.mode == "offline":
        return [passed(NAME, f"{place}, offline: nemotron artifacts sync sends what waits")]
    server = wandb_server(settings.base_url or DEFAULT_URL, project)
    try:
        user = ask_user(server)
    except MirrorError as error:
        if only_client_can_tell(server, error):
            return [passed(NAME, f"{place}; only W&B's client can ask there, with its proxy, headers or certificates")]
        said, _, advice = str(error).partition("; ")
        return [warned(NAME, said, advice)]
    return [passed(NAME, f"{place}, as {user}")]
