"""A stage's JobSpec as a batch script, written by NeMo-Run or by submitit. Submits nothing."""

from nemo_runspec.submitters.render import Submitter, render

__all__ = ["Submitter", "render"]
