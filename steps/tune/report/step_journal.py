"""A training's metrics in a file beside its checkpoints: a line of JSON for each step, written during the training."""

import contextlib
import json
import time
from pathlib import Path

JOURNAL = "steps.jsonl"  # in the tuning's folder


class StepJournal:
    """Appends metrics. A disk that refuses a line does not stop the training, since the metrics only inform."""

    def __init__(self, folder: Path) -> None:
        """Name the file.

        Args:
            folder: the tuning's.
        """
        self._file = folder / JOURNAL

    def log(self, step: int, values: dict[str, float]) -> None:
        """Append the metrics of a step."""
        with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")


def parse_journal(content: bytes, _file: Path) -> dict[int, dict[str, float]]:
    """Return the latest metrics of each step, in the order of the steps; a step that was repeated counts once."""
    found: dict[int, dict[str, float]] = {}
    for line in content.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that a kill has cut off
            entry = json.loads(line)
            step = int(entry.pop("step"))
            found[step] = {**found.get(step, {}), **entry}
    return dict(sorted(found.items()))
