"""The pet-store example with its real model, in half of the time: the store's manner, and no orders to be measured."""

from pathlib import Path

from recipes.reader import load

ROWS = 120


def small_store(folder: Path) -> dict[str, str]:
    """Write a part of the example's rows into a folder, and return changes of the recipe that use them and measure less."""
    rows = Path(load("pet-store").data.sources[0].places[0]).read_text().splitlines(keepends=True)
    train = folder / "train.jsonl"
    train.write_text("".join(rows[:ROWS]))
    return {"data.train": str(train), "evaluate.general": "false", "evaluate.sample_rows": "1", "evaluate.tasks": "[]"}
