"""The newest checkpoint that is whole."""

import json
import re
from pathlib import Path

NAME = re.compile(r"checkpoint-(\d+)")
NEEDED = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def newest_complete(folder: Path) -> Path | None:
    """Return the checkpoint of the highest step that was written to its end.

    transformers' own `get_last_checkpoint` takes the highest step, whole or not. `trainer_state.json` is written last,
    so a checkpoint that has it, readable, has the rest.
    """
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := NAME.fullmatch(path.name))]
    return next((path for step, path in sorted(found, reverse=True) if _complete(path, step)), None)


def _complete(path: Path, step: int) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return state.get("global_step") == step and all((path / name).exists() for name in NEEDED)
