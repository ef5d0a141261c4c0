"""The evaluation's report: `evaluate` writes it once as report.json; register, rollout and the command read it.

Its JSON outlives the code: it lies beside each registered version. `Record` says how to change it.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from steps.common.handover.report_parts import (
    CostSoFar,
    Gains,
    GeneralAbility,
    ModelAnswers,
    ModelRole,
    ModelScores,
    PreparedData,
    QuotedRun,
    ReportPart,
    RowScores,
    SamplePiece,
    TaskResult,
    TuningReport,
)
from steps.common.runtime.errors import UserError
from steps.common.storage.files import write_text
from steps.common.storage.record import Record, first_fault

STEP_REPORT = "report.json"  # of `prepare` and `tune`, in the folder that the step has made


def _is_none(value: object) -> bool:
    return value is None


def _none_from_empty(value: Any) -> Any:
    return value or None


class PreparedRecord(PreparedData, Record):
    """What `prepare` stores beside the rows."""


class TuningRecord(TuningReport, Record):
    """What `tune` stores beside the adapter."""


StepReport = TypeVar("StepReport", PreparedRecord, TuningRecord)


class EvaluationReport(ReportPart, Record):
    """What went into a run, how it was tuned, and how the candidate compares with base and champion."""

    run: str
    passed: bool
    reasons: list[str]
    champion_version: int  # 0: there was no champion
    # Of its adapter's weights; None: there was no champion, or an earlier release wrote the report.
    champion_sha256: str | None = Field(default=None, exclude_if=_is_none)
    evaluated: str  # "as served", or in what else the models were loaded
    cost: CostSoFar | None
    quote: QuotedRun
    scores: dict[ModelRole, ModelScores]
    rows: dict[ModelRole, RowScores]
    gains: Gains
    general: GeneralAbility | None
    tasks: list[TaskResult]
    data: Annotated[PreparedData | None, BeforeValidator(_none_from_empty)]
    tuning: Annotated[TuningReport | None, BeforeValidator(_none_from_empty)]
    sample: list[SamplePiece]
    answers: list[ModelAnswers]

    @property
    def has_preferences(self) -> bool:
        """Whether the held-out rows are preference pairs."""
        return self.scores["candidate"].preference_accuracy is not None


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write the report as JSON."""
    write_text(path, report.model_dump_json(indent=2) + "\n")


def read_report(path: Path) -> EvaluationReport:
    """Read a report that this release or an earlier one wrote.

    Raises:
        UserError: the file is missing, is not a report, or was written by a later release.
    """
    try:
        return EvaluationReport.read(path.read_bytes(), path)
    except FileNotFoundError:
        raise UserError(f"{path}: the evaluation's report is missing; start a new run") from None
    except ValueError as error:
        raise UserError(f"{path}: not an evaluation report: {first_fault(error)}; start a new run") from None


def read_step_report(kind: type[StepReport], folder: Path) -> StepReport:
    """Return the report of `prepare` or `tune` that this release or an earlier one left in the step's folder.

    Raises:
        UserError: the file is missing, is not a report, or was written by a later release.
    """
    path = folder / STEP_REPORT
    try:
        return kind.read(path.read_bytes(), path)
    except FileNotFoundError:
        fault = "the report is missing"
    except ValueError as error:
        fault = f"not a report: {first_fault(error)}"
    raise UserError(f"{path}: {fault}; delete the folder {folder}, and run it again")
