"""The evaluation's report: `evaluate` writes it once as report.json; register, rollout and the command read it.

Its JSON outlives the code: it lies beside each registered version. Keep the names of its keys, give each new key a default,
and raise SCHEMA_VERSION when the meaning of a key changes.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

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

SCHEMA_VERSION = 1


def _is_none(value: object) -> bool:
    return value is None


def _none_from_empty(value: Any) -> Any:
    return value or None


class EvaluationReport(ReportPart):
    """What went into a run, how it was tuned, and how the candidate compares with base and champion."""

    schema_version: int = SCHEMA_VERSION
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
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: the evaluation's report is missing; start a new run") from None
    except ValueError as error:
        raise UserError(f"{path}: the evaluation's report is not valid JSON: {error}; start a new run") from None
    version = content.get("schema_version", 0) if isinstance(content, dict) else 0
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"{path}: a later release wrote this report: it has schema version {version}, and this release reads up to "
            f"{SCHEMA_VERSION}; upgrade Fineline"
        )
    if version == 0 and isinstance(content, dict):  # from before the number: the same keys
        content = {**content, "schema_version": SCHEMA_VERSION}
    try:
        return EvaluationReport.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise UserError(f"{path}: not an evaluation report: {where}: {first['msg']}; start a new run") from None
