"""The newest checkpoint that is whole."""

import json
from pathlib import Path

NEEDED = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def newest_complete(folder: Path) -> Path | None:
    """Return the checkpoint of the highest step that was written to its end.

    transformers' own `get_last_checkpoint` takes the highest step, whole or not. A checkpoint is renamed into place when
    it is whole; what a volume has lost of it since is looked for all the same.
    """
    found = (path for path in folder.glob("checkpoint-*") if path.name.partition("-")[2].isdigit())
    return next((path for path in sorted(found, key=step_of, reverse=True) if _complete(path)), None)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step after which it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _complete(path: Path) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return state.get("global_step") == step_of(path) and all((path / name).exists() for name in NEEDED)
