"""Shows a run in progress: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.shown.task_state import REUSED, Phase, TaskState
from steps.common.runtime.progress import duration

# Between two plain lines about a task of which nothing but its progress has changed.
LINE_SECONDS = 30.0
# Between two plain lines that repeat a note.
NOTE_SECONDS = 60.0
MARKS = {
    Phase.PENDING: "[dim]·[/]",
    Phase.RUNNING: "[yellow]▶[/]",
    Phase.SUCCEEDED: "[green]✔[/]",
    Phase.FAILED: "[red]✘[/]",
    Phase.SKIPPED: "[dim]-[/]",
    Phase.OMITTED: "[dim]-[/]",
    Phase.INTERRUPTED: "[yellow]■[/]",
}
PENDING = TaskState(phase=Phase.PENDING)


class Display:
    """The state of each task, on standard error.

    In a terminal the table is redrawn as things change. Elsewhere a line is printed when a task's phase or message changes,
    and every half minute while the task goes on; each line has the time that the task has taken, so no two are the same.
    """

    def __init__(
        self, title: str, tasks: list[str], console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with every task pending.

        Args:
            title: what is shown, such as the run's name.
            tasks: the tasks, in the order in which they are listed.
            console: where to print; standard error by default.
            clock: returns seconds.
        """
        self._title = title
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=False) if self._console.is_terminal else None
        )
        self._tasks = dict.fromkeys(tasks, (PENDING, ""))
        self._printed: dict[str, float] = {}
        self._note, self._noted = "", 0.0

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
            self._live.update(self._table())
        else:
            self._print(self._title)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.stop()

    def update(self, task: str, state: TaskState, progress: str) -> None:
        """Show a task's state and progress."""
        before, _ = self._tasks.get(task, (PENDING, ""))
        self._tasks[task] = (state, progress)
        if self._live:
            self._live.update(self._table())
            return
        changed = (before.phase, before.message) != (state.phase, state.message)
        goes_on = state.phase is Phase.RUNNING or (state.phase is Phase.PENDING and state.message)
        now = self._clock()
        if changed or (goes_on and now - self._printed.get(task, now) >= LINE_SECONDS):
            self._print(f"{task:<10} {_in_words(state, progress)}")
            self._printed[task] = now
        self._printed.setdefault(task, now)

    def note(self, text: str) -> None:
        """Show a note about the whole run, until another one or an empty one replaces it."""
        changed, self._note = text != self._note, text
        if self._live:
            if changed:
                self._live.update(self._table())
        elif text and (changed or self._clock() - self._noted >= NOTE_SECONDS):
            self._noted = self._clock()
            self._print(text)

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(overflow="fold")
        for task, (state, progress) in self._tasks.items():
            took = duration(state.seconds) if state.seconds else ""
            detail = progress or state.message or ("" if took else state.phase.value.lower())
            # A figure that changes stays on one line; a reason is shown whole.
            whole = state.phase is not Phase.RUNNING
            cell = Text(detail, no_wrap=not whole, overflow="fold" if whole else "ellipsis")
            table.add_row(MARKS[state.phase], task, took, cell)
        return Group(Text(self._title, style="italic"), table, *([Text(self._note)] if self._note else []))


def _in_words(state: TaskState, progress: str) -> str:
    """Return a task's state as a line of text."""
    took = duration(state.seconds) if state.seconds >= 0.5 and state.message != REUSED else ""
    if state.phase is Phase.RUNNING:
        return ", ".join(part for part in (f"running {took}".rstrip(), progress, state.message) if part)
    since = f" {'for' if state.phase is Phase.PENDING else 'in'} {took}" if took else ""
    return f"{state.phase.value.lower()}{since}{': ' + state.message if state.message else ''}"
