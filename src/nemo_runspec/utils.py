"""The text-level work on configs under its documented name; `nemo_runspec.config.interpolation` has it."""

from nemo_runspec.config.interpolation import resolve_run_interpolations, rewrite_paths_for_remote

__all__ = ["resolve_run_interpolations", "rewrite_paths_for_remote"]
