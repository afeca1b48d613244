"""Which project a command is about."""

from nemo_runspec.project import find_project

__all__ = ["find_project"]
