"""Shows a run while it goes on: a live table in a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.shown.task_state import REUSED, Phase, TaskState
from steps.common.runtime.progress import duration

EVERY_SECONDS = 10.0
MARKS = {
    Phase.PENDING: "[dim]·[/]",
    Phase.RUNNING: "[yellow]▶[/]",
    Phase.SUCCEEDED: "[green]✔[/]",
    Phase.FAILED: "[red]✘[/]",
    Phase.SKIPPED: "[dim]-[/]",
    Phase.OMITTED: "[dim]-[/]",
    Phase.INTERRUPTED: "[yellow]■[/]",
}


class Display:
    """What is known of each task, on standard error."""

    def __init__(self, title: str, tasks: list[str]) -> None:
        """Begin with every task pending."""
        self._title = title
        self._console = Console(stderr=True, highlight=False)
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=False) if self._console.is_terminal else None
        )
        self._state = {task: (TaskState(phase=Phase.PENDING), "") for task in tasks}
        self._told: dict[str, float] = {}

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
            self._live.update(self._table())
        else:
            self._console.print(self._title, soft_wrap=True)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.stop()

    def update(self, task: str, node: TaskState, progress: str) -> None:
        """Take what is new of a task."""
        before, _ = self._state.get(task, (TaskState(phase=Phase.PENDING), ""))
        self._state[task] = (node, progress)
        if self._live:
            self._live.update(self._table())
        elif before.phase is not node.phase:
            self._told[task] = time.monotonic()
            self._console.print(f"{task:<10} {self._in_words(node, progress)}", soft_wrap=True, markup=False)
        elif progress and time.monotonic() - self._told.get(task, 0.0) > EVERY_SECONDS:
            self._told[task] = time.monotonic()
            self._console.print(f"{task:<10} {progress}", soft_wrap=True, markup=False)

    def _in_words(self, node: TaskState, progress: str) -> str:
        if node.phase is Phase.RUNNING:
            return f"running {progress}".rstrip()
        took = f" in {duration(node.seconds)}" if node.seconds and node.message != REUSED else ""
        return f"{node.phase.value.lower()}{took}{': ' + node.message if node.message else ''}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(overflow="ellipsis", no_wrap=True)
        for task, (node, progress) in self._state.items():
            took = duration(node.seconds) if node.seconds else ""
            table.add_row(
                MARKS[node.phase], task, took, progress or node.message or ("" if took else node.phase.value.lower())
            )
        return Group(Text(self._title, style="italic"), table)
