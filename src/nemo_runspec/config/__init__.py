"""From a named YAML file to what a script reads: load → override → job config → train config."""

from nemo_runspec.config.job import build_job_config, extract_train_config, generate_job_dir, save_configs
from nemo_runspec.config.loading import find_config_file, load_config, parse_config
from nemo_runspec.config.overrides import apply_dotlist_overrides
from nemo_runspec.config.resolvers import register_resolvers_from_config

__all__ = [
    "apply_dotlist_overrides",
    "build_job_config",
    "extract_train_config",
    "find_config_file",
    "generate_job_dir",
    "load_config",
    "parse_config",
    "register_resolvers_from_config",
    "save_configs",
]
