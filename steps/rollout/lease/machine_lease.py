"""The right on one machine: a lock that ends with its process, and a file that says who holds it.

A rollback writes itself into the file as the holder. The process that held the right sees that, stops, and gives up the lock;
one that does not is killed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import psutil
from pydantic import ConfigDict

from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import exclusive_lock, write_text
from steps.common.storage.record import Record
from steps.rollout.lease.interruption import interruption
from steps.rollout.lease.right import PURPOSE, VERSION, Purpose, lost

STATE, LOCK = "lease.json", "rollout"  # in the model's folder
LOOK_SECONDS = 0.5
STOP_SECONDS = 30.0  # for the process that has lost the right


class RightHolder(Record):
    """Who holds the right, or is about to."""

    model_config = ConfigDict(frozen=True)

    fence: int = 0
    purpose: str = ""  # empty: nobody
    version: int = 0
    pid: int = 0
    started: float = 0.0  # when its process started, in seconds since 1970

    def process(self) -> psutil.Process | None:
        """Return its process, or None if nobody holds the right or the process has ended."""
        try:
            process = psutil.Process(self.pid) if self.purpose else None
            return process if process and abs(process.create_time() - self.started) < 1 else None
        except psutil.NoSuchProcess:
            return None


class MachineLease:
    """The right, held."""

    def __init__(self, model: str, holder: RightHolder, taken_from: int) -> None:
        self._model, self._holder = model, holder
        self.fence, self.taken_from = holder.fence, taken_from

    def check(self) -> None:
        """Read the file, and raise if it names another process.

        Raises:
            TakenOverError: it names a rollback.
        """
        found = read_holder(self._model)
        if found.fence != self.fence:
            raise lost(self._model, {PURPOSE: found.purpose, VERSION: found.version})


def read_holder(model: str) -> RightHolder:
    """Return who holds the right to change what serves under a model's name."""
    try:
        file = volumes.serving(model) / STATE
        return RightHolder.read(file.read_text(), file)
    except (FileNotFoundError, ValueError):
        return RightHolder()


@contextmanager
def machine_lease(model: str, purpose: Purpose, version: int) -> Iterator[MachineLease]:
    """Hold the right on this machine; see `serving_lease`."""
    started = psutil.Process().create_time()
    wanted = RightHolder(purpose=purpose, version=version, pid=os.getpid(), started=started)
    with ExitStack() as stack:
        own, before = _take(stack, model, wanted)
        held = MachineLease(model, own, before.version)
        with interruption(held.check) as interrupt:
            over = threading.Event()
            looking = threading.Thread(target=_look, args=(model, own.fence, over, interrupt), daemon=True)
            looking.start()
            try:
                yield held
            finally:
                over.set()
                looking.join()
                with _changing(model):
                    if read_holder(model) == own:
                        _write(model, own.model_copy(update={"purpose": ""}))


def _take(stack: ExitStack, model: str, wanted: RightHolder) -> tuple[RightHolder, RightHolder]:
    """Acquire the lock; return this holder, and the one from which it has taken the right."""
    own, before = _take_over(model, wanted) if wanted.purpose == Purpose.ROLLBACK else (None, RightHolder())
    line, since = WaitingLine(), time.monotonic()

    def waiting() -> None:
        line.report(f"another rollout of {model} to end")
        found = before.process()
        if own and found and found.pid != os.getpid() and time.monotonic() - since > STOP_SECONDS:
            say(f"process {found.pid}, which rolls out version {before.version}, did not stop and is killed")
            found.kill()

    while True:
        lock = stack.enter_context(ExitStack())
        lock.enter_context(exclusive_lock(volumes.serving(model) / LOCK, on_wait=waiting))
        with _changing(model):
            found = read_holder(model)
            if own and found == own:
                return own, before
            if not found.process():
                own = wanted.model_copy(update={"fence": found.fence + 1})
                _write(model, own)
                return own, before
        lock.close()  # a rollback has taken the right, and waits for the lock
        time.sleep(LOOK_SECONDS)


def _take_over(model: str, wanted: RightHolder) -> tuple[RightHolder | None, RightHolder]:
    """Take the right from a rollout that is under way; return this holder and that one."""
    with _changing(model):
        found = read_holder(model)
        if found.purpose == Purpose.ROLLBACK or not found.process():
            return None, RightHolder()
        own = wanted.model_copy(update={"fence": found.fence + 1})
        _write(model, own)
        return own, found


def _look(model: str, fence: int, over: threading.Event, interrupt: Callable[[], None]) -> None:
    while not over.wait(LOOK_SECONDS):
        if read_holder(model).fence != fence:
            interrupt()
            return


def _changing(model: str) -> AbstractContextManager[None]:
    return exclusive_lock(_file(model), on_wait=lambda: None)


def _write(model: str, holder: RightHolder) -> None:
    write_text(_file(model), holder.model_dump_json() + "\n")


def _file(model: str) -> Path:
    return volumes.serving(model) / STATE
