"""Configs: find, load, override, merge into job.yaml and train.yaml."""

from nemo_runspec.config.job import (
    build_job_config,
    extract_train_config,
    generate_job_dir,
    parse_config,
    save_configs,
)
from nemo_runspec.config.loading import find_config_file, load_config
from nemo_runspec.config.overrides import apply_dotlist_overrides

__all__ = [
    "apply_dotlist_overrides",
    "build_job_config",
    "extract_train_config",
    "find_config_file",
    "generate_job_dir",
    "load_config",
    "parse_config",
    "save_configs",
]
