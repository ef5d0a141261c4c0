"""Tasks: rows whose answers are written by the model and held against their references."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recipes.evaluation import Task
from steps.common.handover.resolved import Resolved, as_planned
from steps.common.model.packs import TokenRow
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow
from steps.common.runtime.errors import UserError
from steps.common.runtime.word_splitting import UNSPACED
from steps.evaluate.scores.answers import Turns

Row = TypeVar("Row")
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


@dataclass(frozen=True)
class AskedTask:
    """A task's rows: what is asked, and what a right answer says."""

    name: str
    task: Task
    asked: list[Turns]
    references: list[str]

    def values(self, answers: list[str]) -> list[float]:
        """Return the metric of each answer, 0 to 1."""
        metric = METRICS[self.task.metric]
        return [metric(answer, reference) for answer, reference in zip(answers, self.references, strict=True)]


def tasks_of(resolved: Resolved, held_out: list[TokenRow]) -> list[AskedTask]:
    """Return the recipe's tasks with their rows, which are spread evenly over the file.

    Raises:
        UserError: a file is another than the run was planned with, or has no row with a reference.
    """
    found: list[AskedTask] = []
    for task, file in zip(resolved.recipe.evaluate.tasks, resolved.tasks, strict=True):
        if file is None:
            rows = [row.messages for row in held_out if row.messages]
        else:
            read = [row for row in read_rows(as_planned(file)) if not isinstance(row, BadRow)]
            rows = [list(row.messages) for _, row in read if row.messages]
        if not rows:
            raise UserError(f"evaluate.tasks: {task.data} has no row that is answered: plain text has no reference")
        chosen = spread(rows, task.rows)
        called = f"{task.metric} of {Path(task.data).stem}"
        again = sum(other.name.partition(" (")[0] == called for other in found)
        name = f"{called} ({again + 1})" if again else called
        asked, references = [turns[:-1] for turns in chosen], [turns[-1][1] for turns in chosen]
        found.append(AskedTask(name, task, asked, references))
    return found


def spread(rows: list[Row], count: int) -> list[Row]:
    """Return at most `count` of the rows, evenly spread over them."""
    if count >= len(rows):
        return rows
    return [rows[number * len(rows) // count] for number in range(count)]


def normalised(text: str) -> str:
    """Return a text without case, punctuation and doubled spaces, its letters in one form of Unicode."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(" " if unicodedata.category(one)[0] == "P" else one for one in letters).split())


def exact(answer: str, reference: str) -> float:
    """Return 1 where both say the same, case and punctuation aside."""
    return float(normalised(answer) == normalised(reference))


def contains(answer: str, reference: str) -> float:
    """Return 1 where the answer contains the reference as whole words, case and punctuation aside."""
    return float(f" {normalised(reference)} " in f" {normalised(answer)} ")


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L's F-measure (Lin 2004, https://aclanthology.org/W04-1013), over the words of any script.

    rouge-score's own tokenizer drops all but a to z and digits (https://github.com/huggingface/evaluate/issues/256).
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return float(scorer.score(reference, answer)["rougeL"].fmeasure)


class _Words:
    """What rouge-score takes for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words, and the letters of scripts that put no space between words."""
        return WORD.findall(normalised(text))


METRICS: dict[str, Callable[[str, str], float]] = {"exact": exact, "contains": contains, "rouge_l": rouge_l}
