"""Labels the pieces of records with Hugging Face `datasets`, in as many processes as there are cores."""

import gc
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.machine.devices import cores
from steps.common.machine.parent_death import signal_on_parent_death
from steps.common.runtime.progress import Progress
from steps.prepare.labelled_table import TableLabelling, labelled_schema

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 256
ROWS_A_PROCESS = 1000  # a process is not worth its start for fewer
MOST_PROCESSES = 8  # each takes some 150 MB


@dataclass(frozen=True)
class LabelledPiece:
    """A piece of the records, and the files of its examples, in the order of the records."""

    records: Path
    examples: list[Path]


@dataclass
class _Work:
    """What the processes inherit when they are forked, so that nothing has to be pickled for them."""

    labelling: TableLabelling
    progress: Progress
    before: int = 0  # records that were done before this piece
    done: Any = None  # records of this piece that each process has done, in memory that they share

    def table(self, records: "pyarrow.Table", rank: int | None) -> "pyarrow.Table":
        """Label a batch, and report the progress from the first process."""
        gc.disable()  # a batch makes many objects and no cycles: looking for some takes a fourteenth of the time
        try:
            found = self.labelling.labelled(records)
        finally:
            gc.enable()
        self.done[rank or 0] += records.num_rows
        if not rank:
            self.progress.update(self.before + sum(self.done))
        return found


_work: list[_Work] = []  # of the step that runs


def _end_with_parent() -> None:
    """Let a process that was forked for this work end when its parent is killed: `datasets` would leave one behind for ever."""
    if _work:
        signal_on_parent_death(signal.SIGKILL)


os.register_at_fork(after_in_child=_end_with_parent)


def label_pieces(pieces: Iterable[Path], labelling: TableLabelling, progress: Progress) -> Iterator[LabelledPiece]:
    """Label each piece, and write its examples beside it.

    Raises:
        UserError: a row is not of the kind that the objective needs.
    """
    # The tokenizer's own threads would only compete with the processes, and it warns of forks once it has used them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import datasets
    import multiprocess

    datasets.disable_progress_bars()
    multiprocess.set_start_method("fork", force=True)
    work = _Work(labelling, progress)
    _work.append(work)
    try:
        for piece in pieces:
            gc.freeze()  # so that the processes do not copy every page when they collect garbage
            yield LabelledPiece(piece, _label(work, piece))
    finally:
        gc.unfreeze()
        _work.remove(work)


def _label(work: _Work, piece: Path) -> list[Path]:
    from datasets import Dataset, Features

    records = Dataset.from_file(str(piece)).with_format("arrow")
    processes = max(1, min(cores(), MOST_PROCESSES, len(records) // ROWS_A_PROCESS))
    work.done = RawArray("q", processes)
    labelled = records.map(
        _labelled,
        with_rank=True,
        batched=True,
        batch_size=BATCH_ROWS,
        writer_batch_size=BATCH_ROWS,
        remove_columns=records.column_names,
        features=Features.from_arrow_schema(labelled_schema()),
        num_proc=processes if processes > 1 else None,
        # Named, so that nothing is kept in a cache elsewhere, and nothing is hashed for its name.
        cache_file_name=str(piece.with_name(piece.name.replace("raw", "labelled"))),
        load_from_cache_file=False,
        new_fingerprint=piece.stem,
    )
    work.before += len(records)
    return [Path(file["filename"]) for file in labelled.cache_files]


def _labelled(records: "pyarrow.Table", rank: int | None) -> "pyarrow.Table":
    return _work[-1].table(records, rank)
