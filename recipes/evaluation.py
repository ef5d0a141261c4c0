"""The parts of a recipe for what the models are evaluated on, and what a candidate must achieve."""

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, model_validator

from recipes.data import Places, listed
from recipes.recipe_part import RecipePart


class Question(RecipePart):
    """A question for the base and the candidate, and for the server over HTTP."""

    ask: str = Field(min_length=1, description="The question.")
    expect: str = Field(default="", description="Text that a correct answer contains. Case is ignored.")


HELD_OUT = "heldout"
COMPRESSED = re.compile(r"\.(gz|zst|bz2)$")


class Task(RecipePart):
    """Rows that the models answer. Each answer is compared with its reference, the last assistant message of the row."""

    data: Places = Field(
        default=HELD_OUT,
        description="heldout: the held-out rows. Otherwise separate rows, in any form and at any places that data.train may "
        "have.",
    )
    metric: Literal["exact", "contains", "rouge_l"] = Field(
        description="exact: the answer equals the reference. contains: the answer contains the reference. Both ignore case "
        "and punctuation. rouge_l: F-measure of the longest common subsequence of words."
    )
    at_least: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The gate refuses a candidate with a mean below this value. Not set: no lower bound.",
    )
    rows: int = Field(
        default=32, ge=1, description="Number of rows to answer, evenly spaced; all rows if there are fewer."
    )

    @property
    def places(self) -> list[str]:
        """The places of the task's own rows; empty for the held-out rows."""
        return [] if self.data == HELD_OUT else listed(self.data)

    @property
    def called(self) -> str:
        """The name of its rows: that of their file or folder without suffixes, or `heldout`."""
        first, *more = [PurePath(COMPRESSED.sub("", place.partition("?")[0])).stem for place in listed(self.data)]
        return f"{first} and {len(more)} more" if more else first


class LmEvalTask(RecipePart):
    """A task of lm-evaluation-harness (lm-eval)."""

    task: str = Field(
        min_length=1,
        description="Name of a task, a group or a tag, such as arc_easy or mmlu, or one that `include` defines.",
    )
    include: str = Field(
        default="",
        description="Your own tasks in place of lm-eval's: a folder of YAML task files, or one such file. Paths in these files "
        "are relative to the file. Their templates and functions are run; the Python files that they name are packed with "
        "the modules that those import from the same folder, and no others. Or a packed task, FILE.zip, which is planned "
        "without lm-eval and without a hub.",
    )
    metric: str = Field(
        default="",
        description="A metric that averages row values between 0 and 1, such as acc_norm; with its filter if there are "
        "several, such as exact_match,strict-match. Empty: the task's first metric.",
    )
    num_fewshot: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Number of examples before each question. Not set: the task's own number.",
    )
    rows: int = Field(
        default=100, ge=1, description="Number of rows to ask, evenly spaced; all rows if there are fewer."
    )
    chat_template: bool = Field(
        default=False,
        description="Apply the model's chat template, as a server does. Published scores often do not use it.",
    )
    at_least: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The gate refuses a candidate with a mean below this value. Not set: no lower bound.",
    )
    allowed_drop: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The gate refuses a candidate whose mean falls below the base's or the champion's by more than this, "
        "beyond noise. 1: report the score only.",
    )


class Evaluate(RecipePart):
    """What the models are evaluated on besides the loss of the held-out rows."""

    questions: list[Question] = Field(
        default=[], description="Questions for every model. They are also the server's smoke test."
    )
    sample_rows: int = Field(
        default=4, ge=0, description="Number of held-out rows whose answers the report shows side by side."
    )
    answer_tokens: int = Field(default=64, ge=1, le=4096, description="Longest answer, in tokens.")
    tasks: list[Task] = Field(
        default=[],
        description="Rows with references, answered with greedy decoding in the form that is served. The gate refuses a "
        "candidate that scores worse on a task than the base or the champion, beyond noise.",
    )
    lm_eval: list[LmEvalTask] = Field(
        default=[],
        description="Tasks of lm-evaluation-harness, scored in the form that is served. Planning them needs the extra "
        "fineline[lm-eval].",
    )
    general: bool = Field(
        default=True,
        description="Ask every model about a hundred questions of general knowledge and reasoning; see gate.general_drop.",
    )

    @property
    def answers(self) -> int:
        """The largest number of answers that one model writes."""
        return len(self.questions) + self.sample_rows + sum(task.rows for task in self.tasks)

    @model_validator(mode="after")
    def _tasks_differ(self) -> "Evaluate":
        tasks = [(task.data, task.metric) for task in self.tasks]
        if twice := [one for one in tasks if tasks.count(one) > 1]:
            raise ValueError(f"tasks: {', '.join(listed(twice[0][0]))} is listed twice with the metric {twice[0][1]}")
        lm_eval = [(one.task, one.metric, one.num_fewshot) for one in self.lm_eval]
        if again := [one for one in lm_eval if lm_eval.count(one) > 1]:
            raise ValueError(f"lm_eval: {again[0][0]} is listed twice with the same metric and num_fewshot")
        return self


class Gate(RecipePart):
    """What a candidate must achieve to become champion.

    A difference counts only if its 95 % interval, from a paired bootstrap over the rows, shows that it is not noise.
    """

    better_than_base: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Smallest reduction of the held-out loss against the base, as a share of it. Its 95 % interval must lie "
        "above 0 too.",
    )
    better_than_champion: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Smallest reduction of the held-out loss against the champion for the candidate to replace it, likewise. "
        "A different seed on the same rows changes the loss by about 1 %, which no interval over rows can detect.",
    )
    worse_than_champion: float = Field(
        default=0.0,
        ge=0,
        description="0: only a better candidate replaces the champion. Otherwise an equally good one replaces it too: the "
        "upper end of the interval of its loss may lie above the champion's loss by up to this share. 0.05 needs enough "
        "held-out rows to detect a change of 5 %.",
    )
    preference_accuracy: float = Field(
        default=0.55,
        ge=0.5,
        lt=1,
        description="dpo only, in place of better_than_base: smallest share of held-out pairs in which the candidate prefers "
        "the chosen answer more than the base does. Against the champion, the loss per pair is compared.",
    )
    keep_expected: bool = Field(
        default=True,
        description="Refuse a candidate that fails the expectation of a question which the base answers correctly.",
    )
    general_drop: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Largest accepted drop in the share of general questions answered correctly, against the base. A drop "
        "within noise does not count.",
    )
