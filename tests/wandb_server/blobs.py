"""What was uploaded, in a directory: contents under their MD5, manifests and files of runs under what names them."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any


class Blobs:
    """The directory and the URLs under which the client reaches it."""

    def __init__(self, directory: Path, base_url: str) -> None:
        self.directory = directory
        self.base_url = base_url
        for kind in ("blob", "manifest", "run"):
            (directory / kind).mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, name: str) -> Path:
        """Where it is kept; `name` as in its URL."""
        return self.directory / kind / name

    def url(self, kind: str, name: str) -> str:
        """Where the client writes it to and reads it from."""
        return f"{self.base_url}/storage/{kind}/{name}"

    def has(self, md5: str) -> bool:
        """Whether there is a content with this digest."""
        return self.path("blob", hexadecimal(md5)).exists()

    def manifest_entries(self, manifest_id: str) -> dict[str, dict[str, Any]]:
        """What the manifest says of each file; empty if it was not uploaded."""
        path = self.path("manifest", file_name(manifest_id))
        entries: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["contents"] if path.exists() else {}
        return entries

    def join_parts(self, name: str, numbers: list[int]) -> str:
        """Make one content of the parts; its MD5."""
        md5 = hashlib.md5()
        with self.path("blob", name).open("wb") as whole:
            for number in numbers:
                part = self.path("blob", f"{name}.{number}")
                content = part.read_bytes()
                md5.update(content)
                whole.write(content)
                part.unlink()
        return base64.b64encode(md5.digest()).decode()


def hexadecimal(md5: str) -> str:
    """The MD5 that the client writes in base 64."""
    return base64.b64decode(md5).hex()


def file_name(text: str) -> str:
    """A name that a file can have."""
    return hashlib.sha1(text.encode()).hexdigest()
