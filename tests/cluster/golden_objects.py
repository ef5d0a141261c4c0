"""The objects of 0.1.0: its overlay for kind, and what its rollout creates for a version that serves."""

from pathlib import Path
from typing import Any

import yaml

GOLDEN_OBJECTS = Path(__file__).parent / "golden" / "0.1.0" / "version.yaml"
GOLDEN_OVERLAY = GOLDEN_OBJECTS.with_name("kind.yaml")
MODEL, MERGED = "tiny", "merged/7596375a6c9011bb"  # in these objects


def of_0_1_0(name: str, merged: str = MERGED) -> list[dict[str, Any]]:
    """Return the Deployment and the Services of version 1 of a model.

    Args:
        name: of the model.
        merged: path of its merged model on the runs volume.
    """
    text = GOLDEN_OBJECTS.read_text().replace(MODEL, name).replace(MERGED, merged)
    return list(yaml.safe_load_all(text))
