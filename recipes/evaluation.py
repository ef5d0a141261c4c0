"""The parts of a recipe that say what the models are asked, and what a candidate must show."""

from typing import Literal

from pydantic import Field, model_validator

from recipes.recipe_part import RecipePart


class Question(RecipePart):
    """A question asked of base and candidate, and over HTTP of the server."""

    ask: str = Field(min_length=1)
    expect: str = Field(default="", description="Text that a right answer contains, upper and lower case alike.")


HELD_OUT = "heldout"


class Task(RecipePart):
    """Rows whose answers the models write, held against their references: what the assistant says last in each row."""

    data: str = Field(
        default=HELD_OUT,
        min_length=1,
        description="heldout: the held-out rows. Else a file of rows of its own, of the forms that data.train has, and "
        "which lies anywhere that may.",
    )
    metric: Literal["exact", "contains", "rouge_l"] = Field(
        description="exact: the answer is the reference. contains: the answer contains it. Case and punctuation aside. "
        "rouge_l: the longest common subsequence of words, as F-measure."
    )
    at_least: float | None = Field(
        default=None, ge=0, le=1, description="The gate refuses a candidate whose mean is below this. Not set: none is."
    )
    rows: int = Field(default=32, ge=1, description="Rows that are answered, evenly spread; fewer where there are.")

    @property
    def file(self) -> str:
        """The file of its own; empty where the held-out rows are meant."""
        return "" if self.data == HELD_OUT else self.data


class HarnessTask(RecipePart):
    """A task of lm-eval, EleutherAI's language model evaluation harness."""

    task: str = Field(
        min_length=1,
        description="Its name there: a task, a group or a tag, as arc_easy, mmlu or one that `include` has.",
    )
    include: str = Field(
        default="",
        description="Tasks of your own in place of lm-eval's: a folder of their YAML files, or one of the files; paths in "
        "them start where they lie. Their templates and functions are run; the Python files that they name are packed, with "
        "what these import from beside them, and no others. Or a task that was packed, FILE.zip, which needs neither "
        "lm-eval to be planned nor a hub.",
    )
    metric: str = Field(
        default="",
        description="One that is the mean of its rows' values between 0 and 1, as acc_norm; with its filter where there "
        "are several, as exact_match,strict-match. Empty: the first one.",
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, le=64, description="Examples before each question. Not set: as the task has it."
    )
    rows: int = Field(default=100, ge=1, description="Rows that are asked, evenly spread; fewer where there are.")
    chat_template: bool = Field(
        default=False,
        description="Ask under the model's chat template, as a server does; published figures often do not.",
    )
    at_least: float | None = Field(
        default=None, ge=0, le=1, description="The gate refuses a candidate whose mean is below this. Not set: none is."
    )
    allowed_drop: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The gate refuses a candidate whose mean lies by more than this below base's or champion's, beyond "
        "noise. 1: none, it is only reported.",
    )


class Evaluate(RecipePart):
    """What is asked of the models besides the held-out rows."""

    questions: list[Question] = Field(default=[], description="Asked of every model; also the server's smoke test.")
    sample_rows: int = Field(default=4, ge=0, description="Held-out rows answered side by side.")
    answer_tokens: int = Field(default=64, ge=1, le=4096, description="Longest answer.")
    tasks: list[Task] = Field(
        default=[],
        description="Rows with references, answered greedily as served. The gate refuses a candidate that is worse in one "
        "than base or champion, beyond noise.",
    )
    lm_eval: list[HarnessTask] = Field(
        default=[],
        description="Tasks of lm-eval, asked of every model as served. It has to be installed: fineline[lm-eval].",
    )
    general: bool = Field(
        default=True, description="Ask every model some hundred questions of general ability; see gate.general_drop."
    )

    @property
    def answers(self) -> int:
        """How many answers a model writes at the most."""
        return len(self.questions) + self.sample_rows + sum(task.rows for task in self.tasks)

    @model_validator(mode="after")
    def _tasks_differ(self) -> "Evaluate":
        asked = [(task.data, task.metric) for task in self.tasks]
        if twice := [one for one in asked if asked.count(one) > 1]:
            raise ValueError(f"tasks: {twice[0][0]} is there twice with the metric {twice[0][1]}")
        named = [(one.task, one.metric, one.num_fewshot) for one in self.lm_eval]
        if again := [one for one in named if named.count(one) > 1]:
            raise ValueError(f"lm_eval: {again[0][0]} is there twice with the same metric and num_fewshot")
        return self


class Gate(RecipePart):
    """What a candidate must show to be registered as champion.

    A difference counts where its 95 % interval says that it is not noise: a paired bootstrap over the rows.
    """

    better_than_base: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Least share by which held-out loss lies below the base's; its interval must lie above 0 too.",
    )
    better_than_champion: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Likewise, below the champion's, for the candidate to take its place. Another seed alone, with the same "
        "rows, changes the loss by about 1 %, which no interval over rows can tell.",
    )
    worse_than_champion: float = Field(
        default=0.0,
        ge=0,
        description="0: only a better candidate takes the champion's place. Else one that is as good takes it too: its loss "
        "may lie above the champion's by this share, at its interval's far end. 0.05 needs so many held-out rows that a loss "
        "of 5 % would show.",
    )
    preference_accuracy: float = Field(
        default=0.55,
        ge=0.5,
        lt=1,
        description="dpo, in place of better_than_base: least share of held-out pairs whose chosen answer the candidate "
        "prefers more than the base does. With the champion it is the loss of a pair that is compared.",
    )
    keep_expected: bool = Field(
        default=True, description="Refuse a candidate that fails a question's expectation which the base meets."
    )
    general_drop: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Largest share of the questions of general ability that may be lost against the base; a loss that may "
        "be noise is none.",
    )
