"""What every recipe script starts with: its one option, its config, and errors told in one line."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_runspec.config.loading import load_config
from nemo_runspec.config.resolvers import register_slots
from nemo_runspec.errors import ConfigError, RequirementError, RunspecError
from nemo_runspec.jobs.child import end_with_parent
from nemo_runspec.stop import StopRequested

REFUSED = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_raise_errors = ContextVar("raise_errors", default=False)


def run_script(main: Callable[[Path], None]) -> None:
    """Call `main` with the path given by `--config`; an error meant for a person becomes one line and exit code 2.

    SIGTERM raises SystemExit(143) in the main thread, so that `finally` blocks run. Log records from INFO on go to
    standard error, unless logging is set up already. Under torchrun the script ends when torchrun does: it runs in a
    session of its own, which no signal to torchrun's process group reaches. After a `StopRequested` one line says so,
    on rank 0, and the exit code is 75.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="train.yaml of this run")
    config_path: Path = parser.parse_args().config
    with _exit_on_sigterm():
        try:
            main(config_path)
        except RunspecError as error:
            _refuse(error)
        except StopRequested as stop:
            if os.environ.get("RANK", "0") == "0":
                _say(str(stop))
            raise
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = error.filename or os.environ.get("NEMO_RUN_DIR") or Path.cwd()
            _refuse(RequirementError(f"disk full at {where}: {error.strerror}; free some space and run again"))


@contextmanager
def raised_errors() -> Iterator[None]:
    """Have `run_script` raise errors meant for a person, within the block, to a caller that runs scripts in-process."""
    token = _raise_errors.set(True)
    try:
        yield
    finally:
        _raise_errors.reset(token)


def load_train_config(path: str | Path) -> dict[str, Any]:
    """Return the config with every `${…}` resolved, `${art:…}` through the artifact store.

    `run.SLOT` of a slot that was looked into names the version that it was, so that it is the same later.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: bad YAML, or an interpolation that cannot be resolved, by key.
        ArtifactError: an artifact that the config refers to is missing or damaged.
    """
    config = load_config(path)
    slots = register_slots(config)
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        if said := _find_ours(error):
            raise said from error
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{path}: {key}{str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    for slot, ref in slots.versions.items():
        container["run"][slot] = str(ref)
    return {str(key): value for key, value in container.items()}


def _find_ours(error: BaseException) -> RunspecError | None:
    """The error of this project that `error` was raised from, if any."""
    cause = error.__cause__ or error.__context__
    return cause if cause is None or isinstance(cause, RunspecError) else _find_ours(cause)


def _refuse(error: RunspecError) -> NoReturn:
    if _raise_errors.get():
        raise error
    _say(f"error: {' '.join(str(error).split())}")
    raise SystemExit(REFUSED)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_exit(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise SystemExit(TERMINATED)
