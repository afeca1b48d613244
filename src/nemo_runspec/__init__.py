"""Toolkit for recipe scripts: runspec, config, profiles, execution, artifacts. Knows neither Prefect nor any recipe."""

from nemo_runspec.runspec import Runspec, RunspecArtifacts, RunspecConfig, RunspecResources, RunspecRun, parse

__all__ = ["Runspec", "RunspecArtifacts", "RunspecConfig", "RunspecResources", "RunspecRun", "parse"]
