"""The parts of the evaluation's report, as their keys stand in its JSON."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from steps.common.handover.report_difference import Difference

ModelRole = Literal["base", "candidate", "champion"]


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return not value


def _nan_from_null(value: Any) -> Any:
    return math.nan if value is None else value


Measured = Annotated[
    float, BeforeValidator(_nan_from_null)
]  # NaN where it could not be computed, which is null in JSON


class ReportPart(BaseModel):
    """A part of the report; keys that a later release adds are ignored."""

    model_config = ConfigDict(frozen=True)


class ModelScores(ReportPart):
    """A model on the held-out rows."""

    loss: Measured  # nats per labelled token
    perplexity: Measured
    accuracy: Measured  # share of the labelled tokens that the model ranks first
    tokens: int  # labelled
    # Only for preference pairs, and not for the base, which prefers nothing over itself:
    pairs: int | None = Field(default=None, exclude_if=_is_none)
    preference_accuracy: float | None = Field(default=None, exclude_if=_is_none)
    preference_margin: float | None = Field(default=None, exclude_if=_is_none)
    preference_loss: float | None = Field(default=None, exclude_if=_is_none)

    def metrics(self) -> dict[str, float]:
        """Return the numbers by the names of their keys."""
        return {name: value for name, value in self if value is not None}

    @property
    def preference_in_words(self) -> str:
        """The share of pairs in which the model prefers the chosen answer, or a dash."""
        return "-" if self.preference_accuracy is None else f"{self.preference_accuracy:.1%} of {self.pairs}"


class RowScores(ReportPart):
    """A model on each held-out row, in the order of the rows."""

    nats: list[Measured]  # cross-entropy, summed over the row's labelled tokens
    labelled: list[int]  # tokens
    right: list[int]  # labelled tokens that the model ranks first


class Gains(ReportPart):
    """By how much the candidate is better than the others on the held-out rows."""

    base: Difference
    champion: Difference | None


class GeneralAbility(ReportPart):
    """The share of general questions that each model answers correctly, and the candidate's gain over the base."""

    accuracy: dict[ModelRole, float]
    gain: Difference


class TaskResult(ReportPart):
    """The metric of one task for each model, and the candidate's difference from the others."""

    name: str
    metric: str
    at_least: float | None
    allowed_drop: float = 0.0  # how far a significantly worse candidate may fall below the others; 1: any distance
    means: dict[ModelRole, float]
    base: Difference
    champion: Difference | None


class QuotedRun(ReportPart):
    """What the plan estimated."""

    tokens: int
    steps: int
    minutes: dict[str, float]  # by leg of the run
    on: str


class CostSoFar(ReportPart):
    """What the node has cost up to the evaluation; prices in US dollars."""

    instance_type: str
    capacity: str
    price: float | None  # per hour; None: unknown
    priced_on: str
    quoted: float | None  # for the whole run
    hours: float
    so_far: float | None


class PreparedSource(ReportPart):
    """The rows of one source in a mixture, as they are seen per epoch."""

    source: str  # with its part in the mixture, in words
    rows: int
    tokens: int
    weight: float | None = None  # how many times each of its rows is seen; None: it has a share
    share: float | None = None  # of the training rows

    @property
    def in_words(self) -> str:
        """Its rows, as a part of a line."""
        return f"{self.source}: {self.rows} rows, {self.tokens} tokens"


class PreparedData(ReportPart):
    """The rows, as `prepare` reports them."""

    train_rows: int
    validation_rows: int
    bad_rows: int
    duplicates: int = 0
    leaked: int = 0
    train_tokens: int
    longest: int = 0
    labelled_share: float
    turns_learnt: int = Field(default=0, exclude_if=_is_empty)  # of the assistant, per epoch
    turns_read: int = Field(
        default=0, exclude_if=_is_empty
    )  # likewise: not learned, because the row says so, or because the server builds no such prompt
    turns_cut: int = Field(default=0, exclude_if=_is_empty)  # likewise: cut off, because the row is too long
    too_long_rows: int = Field(default=0, exclude_if=_is_empty)  # left out by `data.too_long`
    warnings: list[str] = Field(default=[], exclude_if=_is_empty)  # what the user should know before the version serves
    sources: list[PreparedSource] = Field(
        default=[], exclude_if=_is_empty
    )  # of a mixture; empty: there is only one source
    ignored: dict[str, int] = Field(default={}, exclude_if=_is_empty)  # rows by the name of what has no effect in them

    @property
    def turns_in_words(self) -> str:
        """How many of the assistant's turns are learned; empty if there are none, or an earlier release counted none."""
        if not self.turns_learnt + self.turns_read:
            return ""
        cut = f", {self.turns_cut} cut off" if self.turns_cut else ""
        return f"{self.turns_learnt} turns of the assistant learned, {self.turns_read} only read{cut}"

    @property
    def ignored_in_words(self) -> str:
        """What has no effect, by name; empty if there is nothing of the kind."""
        names = ", ".join(f"{name} ({rows} rows)" for name, rows in self.ignored.items())
        return f"ignored: {names}" if names else ""


class TuningReport(ReportPart):
    """The training, as `tune` reports it."""

    steps: int
    resumed_from: int = 0
    trained_tokens: int | None = Field(
        default=None, exclude_if=_is_none
    )  # in all steps; None: an earlier release tuned
    seconds: float
    tokens_a_second: float
    first_loss: Measured
    last_loss: Measured
    held_out: list[tuple[int, Measured]] = []  # step and loss
    kept_step: int | None = None
    losses: list[tuple[int, Measured]] = []  # step and loss
    learning_rates: list[Measured] = []
    gradient_norms: list[Measured] = []
    # Only for preference pairs:
    rewards: list[tuple[int, Measured, Measured]] | None = Field(
        default=None, exclude_if=_is_none
    )  # step, margin, accuracy
    reward_margin: Measured | None = Field(default=None, exclude_if=_is_none)
    reward_accuracy: Measured | None = Field(default=None, exclude_if=_is_none)
    peak_bytes: int = 0
    predicted_bytes: int = 0
    micro_batch_tokens: int | float | None = None
    micro_batches_a_step: int | None = None
    tokens_at_once: int | float | None = None
    out_of_memory: list[dict[str, int]] = []
    processes: int = 1
    mfu: float | None = None  # model FLOPs utilisation; None: the device's peak is unknown


class SamplePiece(ReportPart):
    """Consecutive tokens of a training row that are all learned, or all only read."""

    text: str
    learnt: bool


class ChatMessage(ReportPart):
    """One turn of a chat, as the OpenAI API has it."""

    role: str
    content: str


class ModelAnswers(ReportPart):
    """A question of the recipe's, or a held-out chat, with the answer of each model."""

    asked: str  # the last turn
    messages: list[ChatMessage] | None = Field(
        default=None, exclude_if=_is_none
    )  # the whole chat, if it is texts alone, which the live gate can ask; absent in old reports
    wanted: str  # the answer in the data; empty for a question of the recipe's
    base: str
    candidate: str
    champion: str | None = Field(default=None, exclude_if=_is_none)
    # Only for a question of the recipe's:
    expect: str | None = Field(default=None, exclude_if=_is_none)
    candidate_meets: bool | None = Field(default=None, exclude_if=_is_none)
