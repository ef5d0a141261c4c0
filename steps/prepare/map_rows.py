"""Labels the pieces of records with Hugging Face `datasets`, in as many processes as there are cores."""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.machine.devices import cores
from steps.common.machine.forked_pool import guarded_pool
from steps.common.machine.parent_death import signal_on_parent_death
from steps.common.runtime.progress import Progress
from steps.prepare.labelled_table import TableLabelling, labelled_schema

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 256
# A process is not worth its start for fewer rows, unless they are long.
ROWS_A_PROCESS = 1000
BYTES_A_PROCESS = 2 << 20  # of records
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
    thread: int = field(default_factory=threading.get_ident)  # that forks the processes
    forked_by_it: bool = (
        True  # the process that is being forked; those in place of dead ones are forked by the pool's thread
    )

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


def _before_fork() -> None:
    if _work:
        _work[-1].forked_by_it = threading.get_ident() == _work[-1].thread


def _in_child() -> None:
    """Let a process that was forked for this work end when its parent is killed: `datasets` would leave one behind for ever.

    The kernel takes the end of the thread that forked it for that of the parent.
    """
    if _work:
        signal.signal(
            signal.SIGTERM, signal.SIG_DFL
        )  # by which the pool ends it; a handler of the step might not be called
        if _work[-1].forked_by_it:
            signal_on_parent_death(signal.SIGKILL)


os.register_at_fork(before=_before_fork, after_in_child=_in_child)


def label_pieces(pieces: Iterable[Path], labelling: TableLabelling, progress: Progress) -> Iterator[LabelledPiece]:
    """Label each piece, and write its examples beside it.

    Raises:
        UserError: a row is not of the kind that the objective needs, or a process was killed.
    """
    work = _Work(labelling, progress)
    _work.append(work)
    try:
        with _library_settings():
            for piece in pieces:
                gc.freeze()  # so that the processes do not copy every page when they collect garbage
                with guarded_pool(_killed):
                    examples = _label(work, piece)
                yield LabelledPiece(piece, examples)
    finally:
        gc.unfreeze()
        _work.remove(work)


@contextlib.contextmanager
def _library_settings() -> Iterator[None]:
    """Set what `datasets` and its processes read, and restore it."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    # The tokenizer's own threads would only compete with the processes, and it warns of forks once it has used them.
    os.environ[name] = "false"
    import datasets
    import multiprocess

    bars, method = not datasets.are_progress_bars_disabled(), multiprocess.get_start_method(allow_none=True)
    datasets.disable_progress_bars()
    multiprocess.set_start_method("fork", force=True)
    try:
        yield
    finally:
        multiprocess.set_start_method(method, force=True)
        if bars:
            datasets.enable_progress_bars()
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _killed(by: signal.Signals) -> str:
    if by is signal.SIGKILL:
        return (
            "data: a process that prepares the rows was killed, probably for lack of memory; give the step more memory, or "
            "fewer cores: it starts a process for each"
        )
    return f"data: a process that prepares the rows was ended by {by.name}; run it again"


def processes_for(rows: int, size: int) -> int:
    """Return how many processes label so many records of so many bytes in all."""
    worth = max(rows // ROWS_A_PROCESS, size // BYTES_A_PROCESS)
    return max(1, min(cores(), MOST_PROCESSES, rows, worth))


def _label(work: _Work, piece: Path) -> list[Path]:
    from datasets import Dataset, Features

    records = Dataset.from_file(str(piece)).with_format("arrow")
    processes = processes_for(len(records), piece.stat().st_size)
    work.done = RawArray("q", processes)
    if processes > 1 and not work.before:
        # Here, so that all processes inherit one decision on how texts are tokenised, which the first ones settle.
        work.labelling.labelled(records[:BATCH_ROWS])
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
