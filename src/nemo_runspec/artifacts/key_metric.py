"""The one number that says most about an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The first that is there counts.
KEY_METRICS = ("valid_loss", "final_loss", "total_tokens", "total_sequences", "step")


def key_metric(metadata: Mapping[str, Any]) -> str:
    """E.g. `valid_loss 3.215` or `held-out reward 0.62 → 0.81`; empty if there is none."""
    before, after = metadata.get("heldout_before"), metadata.get("heldout_after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        return f"held-out reward {before:.2f} → {after:.2f}"
    for name in KEY_METRICS:
        value = metadata.get(name)
        if isinstance(value, int | float):
            return f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value:,}"
    return ""
