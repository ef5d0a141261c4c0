"""Finds the newest complete checkpoint."""

import json
from pathlib import Path

REQUIRED_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def latest_complete(folder: Path) -> Path | None:
    """Return the complete checkpoint with the highest step; None if there is none.

    transformers' own `get_last_checkpoint` returns the highest step, complete or not. A checkpoint is renamed into place
    once it is complete, but the volume may have lost parts of it since.
    """
    found = (path for path in folder.glob("checkpoint-*") if path.name.partition("-")[2].isdigit())
    return next((path for path in sorted(found, key=checkpoint_step, reverse=True) if _is_complete(path)), None)


def checkpoint_step(checkpoint: Path) -> int:
    """Return the optimizer step after which a checkpoint was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_complete(path: Path) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return state.get("global_step") == checkpoint_step(path) and all((path / name).exists() for name in REQUIRED_FILES)
