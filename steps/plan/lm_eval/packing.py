"""Packs a task of lm-eval: fetches its rows, takes its definition along, and has it tried."""

import tempfile
from pathlib import Path
from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval import pack
from steps.common.lm_eval.library import quiet
from steps.common.lm_eval.load_tasks import task
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.plan.lm_eval.definitions import copy_definitions, manager_of, members, with_its_files
from steps.plan.lm_eval.foreign_errors import one_line
from steps.plan.lm_eval.trial import Trial, tried


def packed(key: str, wanted: LmEvalTask) -> Path:
    """Pack a task onto the runs volume, under its digest.

    Args:
        key: the recipe's, for messages.
        wanted: what it says there.

    Raises:
        UserError: the task, its data set or its metric is not there, or it fails when it is asked.
    """
    quiet()
    manager = manager_of(key, wanted)
    entries = members(key, manager, wanted.task)
    tasks = {entry.name: _loaded(key, manager, entry, wanted) for entry in entries}
    rows = _spread({name: len(one.eval_docs) for name, one in tasks.items()}, wanted.rows)
    root = volumes.runs() / "data"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=root) as name:
        content, file = Path(name) / "content", Path(name) / "file"
        copy_definitions([entry for entry in entries if entry.name in rows], content / pack.DEFINITIONS)
        for one in rows:
            _write_rows(tasks[one], content / pack.ROWS / one)
        pack.check_size(
            sum(file.stat().st_size for file in content.rglob("*") if file.is_file()), f"{key}: {wanted.task}"
        )
        asked = pack.PackedRequest(
            wanted=pack.keys(wanted),
            rows=rows,
            num_fewshot=wanted.num_fewshot,
            chat_template=wanted.chat_template,
            metric="",
            filter="",
            read_tokens=0,
            written_tokens=0,
        )
        asked = tried(Trial(key=key, wanted=wanted, content=content, asked=asked))
        pack.write(content, asked, file)
        final = root / sha256_of(file)[:16] / f"{wanted.task}{pack.SUFFIX}"
        final.parent.mkdir(parents=True, exist_ok=True)
        file.replace(final)
    say(f"{key}: {asked.count} rows of {wanted.task}, by {asked.metric_in_words}: packed as {final}")
    return final


def _loaded(key: str, manager: Any, entry: Any, wanted: LmEvalTask) -> Any:
    """Return lm-eval's task with its data set, which is fetched unless it is there."""
    changes = with_its_files(entry) if wanted.include else {}
    if wanted.num_fewshot is not None:
        changes["num_fewshot"] = wanted.num_fewshot
    try:
        return task(manager, entry.name, changes)
    except Exception as error:  # of whatever kind: a task's own functions run here, and several libraries
        where = f"{key}: lm-eval's task {entry.name}"
        if not isinstance(error, OSError):
            raise UserError(f"{where} cannot be loaded: {one_line(error)}") from None
        data = changes.get("dataset_path") or entry.cfg.get("dataset_path")
        raise UserError(
            f"{where}: its data set {data} cannot be read: {one_line(error)}; mend the name or the way to the hub "
            "(HF_ENDPOINT, HF_TOKEN), or take a task of your own, whose data_files lie on this machine"
        ) from None


def _spread(there: dict[str, int], count: int) -> dict[str, list[int]]:
    """Return which rows of each task are asked: evenly spread over all of them, tasks without any left out."""
    every = [(name, place) for name, rows in there.items() for place in range(rows)]
    found: dict[str, list[int]] = {}
    for number in range(min(count, len(every))):
        name, place = every[number * len(every) // min(count, len(every))]
        found.setdefault(name, []).append(place)
    return found


def _write_rows(one: Any, folder: Path) -> None:
    """Write the splits: whole where they are asked or examples are drawn from them, else a row, since lm-eval looks."""
    config, folder_of = one.config, folder
    folder_of.mkdir(parents=True)
    asked = config.test_split or config.validation_split
    for split in {config.training_split, config.validation_split, config.test_split, one.fewshot_cfg.split} - {None}:
        rows = one.dataset[split]
        whole = split == asked or config.num_fewshot
        (rows if whole else rows.select(range(min(1, len(rows))))).to_parquet(folder_of / f"{split}.parquet")
