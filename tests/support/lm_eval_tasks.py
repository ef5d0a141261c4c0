"""A custom lm-eval task with its rows in a file beside it."""

import json
from pathlib import Path
from typing import Any

import yaml

# The option that the tiny model prefers, and the one it prefers after eight epochs of the chats.
BEFORE, AFTER = " have", " food"
SHOP: dict[str, Any] = {
    "task": "shop",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{ask}}",
    "doc_to_choice": "options",
    "doc_to_target": "right",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}


def write_shop(folder: Path, **changes: Any) -> Path:
    """Write the task with the given changes, and thirty rows whose first option is right."""
    folder.mkdir(exist_ok=True)
    with (folder / "rows.jsonl").open("w") as out:
        for number in range(30):
            row = {"ask": f"when do you have cats {number}", "options": [BEFORE, AFTER], "right": 0}
            out.write(json.dumps(row) + "\n")
    task = {**SHOP, **changes}
    (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    return folder
