"""The result file of a job: its losses by step, as CSV with OpenAI's columns."""

import csv
import hashlib
import io
import logging
import math
import time
from collections.abc import Iterable

from sqlalchemy.orm import Session

from api.files.file_contents import FileContents
from api.files.team_files import RESULTS, add, find, is_deleted
from api.jobs.job_place import ENDED, JobState
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from steps.common.runtime.errors import UnreachableError, UserError, first_line

LOG = logging.getLogger("fineline.api")
PAUSE_SECONDS = 60.0  # after a failure of the store, which may take long for each of a list of jobs
FILE = "step_metrics.csv"
COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


def result_files(session: Session, contents: FileContents, job: JobRecord, state: JobState) -> list[str]:
    """Return the ids of a job's result files, after storing them if it has ended and they are not there yet.

    None while they cannot be stored, which is logged, and after they were deleted.
    """
    if state.status not in ENDED or not _losses(state):
        return []
    file_id = _id(job)
    try:
        find(session, job.team, file_id)
    except ApiError:
        if is_deleted(session, file_id) or time.monotonic() < contents.failing_until:
            return []
        try:
            add(session, contents, job.team, file_id, FILE, RESULTS, csv_of(state).encode())
        except (ApiError, UserError, UnreachableError) as error:
            LOG.warning("%s: %s cannot be stored: %s", job.id, FILE, first_line(error))
            if not isinstance(error, ApiError) or error.status == 503:
                contents.failing_until = time.monotonic() + PAUSE_SECONDS
            return []
    return [file_id]


def _id(job: JobRecord) -> str:
    return f"file-{hashlib.sha256(f'{job.id} {FILE}'.encode()).hexdigest()[:32]}"


def csv_of(state: JobState) -> str:
    """Return the metrics of a training as CSV.

    Training measures no token accuracy. `train_accuracy` is the share of pairs whose chosen answer the model prefers, and
    empty without pairs; `valid_mean_token_accuracy` is that of the evaluation, in the row of the step whose adapter is kept.
    """
    rows: dict[int, dict[str, float]] = {}
    for column, values in (("train_loss", _losses(state)), ("valid_loss", _held_out(state))):
        for step, value in values:
            rows.setdefault(step, {})[column] = value
    if state.report and (tuning := state.report.tuning):
        for step, _, accuracy in tuning.rewards or []:
            rows.setdefault(step, {})["train_accuracy"] = accuracy
        kept = tuning.steps if tuning.kept_step is None else tuning.kept_step
        rows.setdefault(kept, {})["valid_mean_token_accuracy"] = state.report.scores["candidate"].accuracy
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for step, row in sorted(rows.items()):
        writer.writerow([step, *(_text(row.get(column)) for column in COLUMNS[1:])])
    return out.getvalue()


def _text(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _losses(state: JobState) -> list[tuple[int, float]]:
    if state.report and state.report.tuning:
        return state.report.tuning.losses
    return _measured((one.step, one.train_loss) for one in state.measurements)


def _held_out(state: JobState) -> list[tuple[int, float]]:
    if state.report and state.report.tuning:
        return state.report.tuning.held_out
    return _measured((one.step, one.held_out_loss) for one in state.measurements)


def _measured(values: Iterable[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return [(step, value) for step, value in values if value is not None]
