"""Which W&B server, and the key for it: from the environment or the netrc file, never asked for.

A record of a store may name any server, so the environment's key goes only where the user's own settings say.
"""

from __future__ import annotations

import netrc
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.settings import DEFAULT_URL

LATER = "then run nemotron artifacts sync"
"""The next step of an error that leaves versions waiting."""

_NOT_IN_A_SLUG = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class WandbServer:
    """A server, `base_url` without a slash at its end; without a key nothing can be asked of it."""

    base_url: str
    api_key: SecretStr | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """The server that `$WANDB_BASE_URL` names, else W&B's own."""
        return cls.at(os.environ.get("WANDB_BASE_URL") or DEFAULT_URL)

    @classmethod
    def at(cls, base_url: str, *, own: str | None = None) -> Self:
        """The server with its key: `$WANDB_API_KEY` if that is meant for it, else that of its host in netrc.

        It is meant for the server of `$WANDB_BASE_URL`; without that variable for W&B's own and for `own`, the one that
        the user's settings name.
        """
        url = base_url.rstrip("/")
        named = os.environ.get("WANDB_BASE_URL")
        meant_for = {named.rstrip("/")} if named else {DEFAULT_URL, (own or DEFAULT_URL).rstrip("/")}
        key = os.environ.get("WANDB_API_KEY") if url in meant_for else None
        key = key or _key_from_netrc(urlsplit(url).netloc)
        return cls(base_url=url, api_key=SecretStr(key) if key else None)

    @property
    def slug(self) -> str:
        """Host and port as a file name: the same for all URLs of one server."""
        return _NOT_IN_A_SLUG.sub("-", urlsplit(self.base_url).netloc)


def no_key(base_url: str) -> MirrorError:
    """That there is no API key for the server, and how to give one."""
    is_default = base_url == DEFAULT_URL
    variables = "WANDB_API_KEY" if is_default else f"WANDB_API_KEY and WANDB_BASE_URL={base_url}"
    login = "wandb login" if is_default else f"wandb login --host {base_url}"
    return MirrorError(
        f"no API key for W&B server {base_url}; set {variables}, or store one with `{login}`, {LATER}", server_wide=True
    )


def cancelled(base_url: str) -> MirrorError:
    """That somebody cancelled what was being sent."""
    return MirrorError(f"W&B server {base_url}: cancelled; run nemotron artifacts sync", server_wide=True)


def _key_from_netrc(host: str) -> str | None:
    """That of the host itself; an entry for all others is none for W&B."""
    named = os.environ.get("NETRC")
    candidates = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    try:
        path = next(path for path in (file.expanduser() for file in candidates) if path.is_file())
        found = netrc.netrc(path).hosts.get(host)
    except (StopIteration, OSError, RuntimeError, ValueError, netrc.NetrcParseError):
        return None
    return found[2] if found else None
