"""Which W&B server, and the key for it: from the environment or the netrc file, never asked for."""

from __future__ import annotations

import netrc
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr

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
    def at(cls, base_url: str) -> Self:
        """The server with its key: `$WANDB_API_KEY` unless `$WANDB_BASE_URL` says it is another's, else from netrc."""
        url = base_url.rstrip("/")
        named = os.environ.get("WANDB_BASE_URL", "").rstrip("/")
        key = os.environ.get("WANDB_API_KEY") if named in ("", url) else None
        key = key or _key_from_netrc(urlsplit(url).netloc)
        return cls(base_url=url, api_key=SecretStr(key) if key else None)

    @property
    def slug(self) -> str:
        """Host and port as a file name: the same for all URLs of one server."""
        return _NOT_IN_A_SLUG.sub("-", urlsplit(self.base_url).netloc)


def _key_from_netrc(host: str) -> str | None:
    named = os.environ.get("NETRC")
    candidates = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    try:
        path = next(path for path in (file.expanduser() for file in candidates) if path.is_file())
        found = netrc.netrc(path).authenticators(host)
    except (StopIteration, OSError, RuntimeError, ValueError, netrc.NetrcParseError):
        return None
    return found[2] if found else None
