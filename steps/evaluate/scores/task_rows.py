"""The recipe's tasks: the model generates an answer for each row, and a metric compares it with the row's reference."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from recipes.evaluation import Task
from steps.common.handover.resolved import Resolved, as_planned
from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow
from steps.common.runtime.errors import UserError
from steps.common.structured.parse_calls import parse_calls
from steps.common.structured.parsed_call import ParsedCall
from steps.common.structured.reference import CALL, is_reference, wanted_calls
from steps.evaluate.scores.metrics.call_metric import call
from steps.evaluate.scores.metrics.json_metrics import json_equal, json_valid
from steps.evaluate.scores.metrics.text_metrics import contains, exact, rouge_l

Row = TypeVar("Row")
CallReader = Callable[[str], list[ParsedCall] | None]  # the calls in an answer; None if one cannot be read

METRICS: dict[str, Callable[[str, str], float]] = {
    "exact": exact,
    "contains": contains,
    "rouge_l": rouge_l,
    "json_valid": json_valid,
    "json_equal": json_equal,
}
WANTED = {CALL: "calls a tool", "json_valid": "is JSON", "json_equal": "is JSON"}


@dataclass(frozen=True)
class TaskRows:
    """The rows of a task: the chats to answer, and the reference answers."""

    name: str
    task: Task
    chats: list[Conversation]
    references: list[Message]
    family: str = ""  # format of the calls in references that are text, see `parse_calls`

    @property
    def keeps_special_tokens(self) -> bool:
        """Whether the answers are wanted with their special tokens, since some of them mark the calls of tools."""
        return self.task.metric == CALL

    def values(self, answers: list[str], read_calls: CallReader = parse_calls) -> list[float]:
        """Return the metric of each answer, between 0 and 1; `read_calls` finds the calls in one."""
        pairs = zip(answers, self.references, strict=True)
        if self.task.metric == CALL:
            return [call(read_calls(answer), wanted_calls(reference, self.family)) for answer, reference in pairs]
        metric = METRICS[self.task.metric]
        return [metric(answer, reference.content) for answer, reference in pairs]


def read_task_rows(resolved: Resolved, held_out: list[Conversation]) -> list[TaskRows]:
    """Read the rows of the recipe's tasks, evenly spread over each file.

    Of the held-out conversations, a task has those whose answer can be a reference of its metric.

    Raises:
        UserError: a file has changed since the run was planned, or there is no row with a reference.
    """
    tasks: list[TaskRows] = []
    family = resolved.chat.tool_parser
    for task, source in zip(resolved.recipe.evaluate.tasks, resolved.tasks, strict=True):
        if source is None:
            rows = [chat for chat in held_out if is_reference(task.metric, chat.answer, family)]
        else:
            found = (row for file in source.files for row in read_rows(as_planned(file)))
            good = [row[1] for row in found if not isinstance(row, BadRow)]
            rows = [row.conversation for row in good if row.conversation]
        if not rows:
            wanted = f" that {WANTED[task.metric]}" if task.metric in WANTED else "; plain text has none"
            raise UserError(f"evaluate.tasks: {task.called} has no row with a reference answer{wanted}")
        chosen = spread(rows, task.rows)
        name = f"{task.metric} of {task.called}"
        same = sum(other.name.partition(" (")[0] == name for other in tasks)
        chats, references = [one.asked for one in chosen], [one.answer for one in chosen]
        tasks.append(TaskRows(f"{name} ({same + 1})" if same else name, task, chats, references, family))
    return tasks


def spread(rows: list[Row], count: int) -> list[Row]:
    """Return at most `count` of the rows, evenly spread."""
    if count >= len(rows):
        return rows
    return [rows[number * len(rows) // count] for number in range(count)]
