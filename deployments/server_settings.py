"""Where the team server listens and where it is found; kept in `server.json` of its folder."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from nemo_runspec.errors import ConfigError

FILE_NAME = "server.json"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 4200
ANY_HOST = ("0.0.0.0", "::")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """`port` 0 is any free one; `public_url` is how others reach it, as behind a proxy with TLS."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    public_url: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port {self.port}: expected 1 to 65535, or 0 for any free one")
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise ConfigError(f"--public-url {self.public_url}: expected http[s]://HOST[:PORT] without a path")

    @property
    def url(self) -> str:
        """The UI's URL, for people and programs on other machines where the host allows it."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return _url(socket.gethostname() if self.host in ANY_HOST else self.host, self.port)

    @property
    def api_url(self) -> str:
        """What clients set as PREFECT_API_URL."""
        return f"{self.url}/api"

    @property
    def local_api_url(self) -> str:
        """The API as this machine reaches it."""
        return f"{_url('localhost' if self.host in ANY_HOST else self.host, self.port)}/api"

    @property
    def ui_api_url(self) -> str:
        """The API for the UI in a browser: without a public URL, at the host and port that it was loaded from."""
        return f"{self.url}/api" if self.public_url else "/api"


@dataclass(frozen=True, kw_only=True)
class AskedSettings:
    """What a command line says; None leaves it as it is."""

    host: str | None = None
    port: int | None = None
    public_url: str | None = None

    def over(self, saved: ServerSettings | None) -> ServerSettings:
        """The saved settings, or the defaults, with what is asked for."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(saved or ServerSettings(), **given)

    def check_is(self, running: ServerSettings, folder: Path) -> None:
        """Raise ConfigError where a running server is not what is asked for."""
        for name, value in asdict(self).items():
            have = getattr(running, name)
            if value not in (None, have) and not (name == "port" and value == 0):
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"{option} {value}: the server of {folder} runs already, with {have}; nemotron server down, then up"
                )


def load_settings(folder: Path) -> ServerSettings | None:
    """What the folder's server was started with; None before its first start.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / FILE_NAME
    try:
        return ServerSettings(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {error}; remove it, it is written anew") from error


def save_settings(folder: Path, settings: ServerSettings) -> None:
    """Remember them for the next start, and for clients."""
    partial = folder / f"{FILE_NAME}.partial"
    partial.write_text(json.dumps(asdict(settings)), encoding="utf-8")
    partial.replace(folder / FILE_NAME)


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
