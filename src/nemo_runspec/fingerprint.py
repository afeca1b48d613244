"""A stage's fingerprint: equal for two stages that must produce the same artifact.

Pure but for reading the files it digests. Volatile settings (where output goes, how often to log or to save) are
left out; the value of every environment variable that the config reads is taken in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nemo_runspec.packaging import recipe_root

VOLATILE_SECTIONS = frozenset({"run", "artifacts", "logger", "checkpoint", "output_dir"})
VOLATILE_VARIABLES = frozenset({"NEMO_RUN_DIR", "PWD"})
_ENV = re.compile(r"\$\{oc\.env:([A-Za-z_][A-Za-z0-9_]*)")


def digest_file(path: Path) -> str:
    """`sha256:<hex>` of the content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_code(files: Iterable[Path], *, root: Path) -> str:
    """One digest over the files' names relative to `root` and their contents."""
    named = sorted((path.relative_to(root).as_posix(), digest_file(path)) for path in files)
    return _digest_json(named)


def recipe_code(script: Path) -> list[Path]:
    """What the script may import: the modules of its own directory and of its recipe's."""
    return sorted({*script.parent.glob("*.py"), *recipe_root(script).glob("*.py")})


def compute_fingerprint(
    config: Mapping[str, object],
    *,
    code: str,
    inputs: Mapping[str, str],
    sources: Mapping[str, str],
    image: str | None,
) -> str:
    """64 hex digits; `config` is the unresolved job config, the mappings go from slot or path to digest."""
    settings = {key: value for key, value in config.items() if key not in VOLATILE_SECTIONS}
    names = set(_ENV.findall(json.dumps(settings))) - VOLATILE_VARIABLES
    environment = {name: os.environ.get(name) for name in names}
    return _digest_json([settings, environment, code, dict(inputs), dict(sources), image])[7:]


def _digest_json(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
