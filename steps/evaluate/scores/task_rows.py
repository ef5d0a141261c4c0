"""The recipe's tasks: the model generates an answer for each row, and a metric compares it with the row's reference."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from recipes.evaluation import Task
from steps.common.handover.resolved import Resolved, as_planned
from steps.common.model.packs import TokenRow
from steps.common.rows.conversation import Conversation
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow
from steps.common.runtime.errors import UserError
from steps.common.runtime.word_splitting import UNSPACED

Row = TypeVar("Row")
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


@dataclass(frozen=True)
class TaskRows:
    """The rows of a task: the chats to answer, and the reference answers."""

    name: str
    task: Task
    chats: list[Conversation]
    references: list[str]

    def values(self, answers: list[str]) -> list[float]:
        """Return the metric of each answer, between 0 and 1."""
        metric = METRICS[self.task.metric]
        return [metric(answer, reference) for answer, reference in zip(answers, self.references, strict=True)]


def read_task_rows(resolved: Resolved, held_out: Sequence[TokenRow]) -> list[TaskRows]:
    """Read the rows of the recipe's tasks, evenly spread over each file.

    Raises:
        UserError: a file has changed since the run was planned, or has no row with a reference.
    """
    tasks: list[TaskRows] = []
    for task, source in zip(resolved.recipe.evaluate.tasks, resolved.tasks, strict=True):
        if source is None:
            rows = [row.conversation for row in held_out if row.conversation]
        else:
            found = (row for file in source.files for row in read_rows(as_planned(file)))
            good = [row[1] for row in found if not isinstance(row, BadRow)]
            rows = [row.conversation for row in good if row.conversation]
        if not rows:
            raise UserError(f"evaluate.tasks: {task.called} has no row with a reference answer; plain text has none")
        chosen = spread(rows, task.rows)
        name = f"{task.metric} of {task.called}"
        same = sum(other.name.partition(" (")[0] == name for other in tasks)
        chats, references = [one.asked for one in chosen], [one.answer.content for one in chosen]
        tasks.append(TaskRows(f"{name} ({same + 1})" if same else name, task, chats, references))
    return tasks


def spread(rows: list[Row], count: int) -> list[Row]:
    """Return at most `count` of the rows, evenly spread."""
    if count >= len(rows):
        return rows
    return [rows[number * len(rows) // count] for number in range(count)]


def normalised(text: str) -> str:
    """Return the text in Unicode form NFKC, without case, punctuation and repeated spaces."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(" " if unicodedata.category(one)[0] == "P" else one for one in letters).split())


def exact(answer: str, reference: str) -> float:
    """Return 1 if the answer equals the reference, ignoring case and punctuation, else 0."""
    return float(normalised(answer) == normalised(reference))


def contains(answer: str, reference: str) -> float:
    """Return 1 if the answer contains the reference as whole words, ignoring case and punctuation, else 0."""
    return float(f" {normalised(reference)} " in f" {normalised(answer)} ")


def rouge_l(answer: str, reference: str) -> float:
    """Return the F-measure of ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013), for words in any script.

    rouge-score's own tokenizer drops everything but a to z and digits (https://github.com/huggingface/evaluate/issues/256).
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return float(scorer.score(reference, answer)["rougeL"].fmeasure)


class _Words:
    """A tokenizer in rouge-score's sense."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words; in scripts that write no spaces between words, the letters."""
        return WORD.findall(normalised(text))


METRICS: dict[str, Callable[[str, str], float]] = {"exact": exact, "contains": contains, "rouge_l": rouge_l}
