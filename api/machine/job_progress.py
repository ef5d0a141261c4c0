"""The state of a job, from what its run has written."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from api.jobs.job_place import ENDED, JobState, Status, registered_version
from api.jobs.job_record import JobRecord
from api.jobs.measurements import measurements_of
from api.machine.job_folders import JobFolder
from api.machine.stored_records import StoredRecords
from pipelines.machine.run_record import INPUTS, OUTPUTS, PROGRESS, RUN, STATE, Run
from pipelines.shown.task_state import Phase, TaskState
from steps.common.handover.report import STEP_REPORT, EvaluationReport, TuningRecord
from steps.common.handover.report_parts import TuningReport
from steps.common.handover.resolved import Quote, Resolved
from steps.common.runtime.errors import GATE_REFUSED
from steps.common.storage import volumes
from steps.tune.report.step_journal import JOURNAL, parse_journal

QUOTE = "quote.json"  # in the run's folder: the job's quote, from before the run has its own plan
GONE = "the folder of its run is gone; create the job again"
MOST_REMEMBERED = 256


def _tuning_of(inputs: bytes, _file: Path) -> Path:
    """Return the folder of the tuning with these inputs."""
    from steps.tune.step import tuning_key

    given = {one["name"]: one["value"] for one in json.loads(inputs)}
    return volumes.tuning(tuning_key(Resolved.read(given["resolved"], "its plan"), given["rows_digest"]))


_task_states = StoredRecords(TaskState.read, 10_000)
_resolved = StoredRecords(Resolved.read, MOST_REMEMBERED)
_quotes = StoredRecords(lambda text, _: Quote.model_validate_json(text), MOST_REMEMBERED)
_reports = StoredRecords(EvaluationReport.read, MOST_REMEMBERED)
_tuning_reports = StoredRecords(TuningRecord.read, MOST_REMEMBERED)
_tunings = StoredRecords(_tuning_of, MOST_REMEMBERED)
_journals = StoredRecords(parse_journal, MOST_REMEMBERED)


def job_state(folder: JobFolder, job: JobRecord) -> JobState:
    """Return the state of a job.

    Args:
        folder: of its run.
        job: the job; its stored record counts if it has changed since.
    """
    run = folder.run()
    if run is None:
        return JobState(status="failed", message=GONE, finished=float(job.created_at))
    job = folder.job() or job
    status = _status(folder, job, run)
    tasks, times = _tasks(run)
    report = _report(run)
    tuning = tuning_folder(run)
    tuned, journal = _tuning_report(tuning, report), _journals.read(tuning / JOURNAL) if tuning else None
    return JobState(
        status=status,
        tasks=tasks,
        times=times,
        started=run.started if tasks or run.phase is Phase.RUNNING else 0.0,
        finished=_finished(status, job, run),
        message=run.message if status == "failed" else "",
        refused=status == "failed" and run.exit_code == GATE_REFUSED,
        quote=_quote(run),
        report=report,
        verdict=run.outputs("evaluate").get("verdict", ""),
        version=registered_version(run.outputs("register").get("version", "")),
        url=run.outputs("rollout").get("url", ""),
        trained_tokens=tuned.trained_tokens if tuned else None,
        measurements=measurements_of(journal, tuned, times.get("tune", (0.0, 0.0))),
    )


def _finished(status: Status, job: JobRecord, run: Run) -> float:
    if status == "cancelled":
        return float(job.wanted_at)
    return (run.finished or _changed(run.folder / RUN)) if status in ENDED else 0.0


def reached(run: Run) -> str:
    """Return how far a run has come, as a text that stays the same if an execution makes no progress."""
    done = [
        folder.name
        for folder in _folders(run.folder / "tasks")
        if (state := _task_states.read(folder / STATE)) and state.phase is Phase.SUCCEEDED
    ]
    tuning = tuning_folder(run)
    checkpoints = [name for name in _names(tuning / "checkpoints") if name.startswith("checkpoint-")] if tuning else []
    return " ".join([*sorted(done), *sorted(checkpoints)])


def _status(folder: JobFolder, job: JobRecord, run: Run) -> Status:
    """Return the status. A job counts as paused or cancelled once that is requested, even if its training is still stopping."""
    if run.phase is Phase.SUCCEEDED:
        return "succeeded"
    if job.wanted == "cancel":
        return "cancelled"
    if folder.has_ended(run):
        return "failed"
    if job.wanted == "pause":
        return "paused"
    # A run whose process was killed is still recorded as running, and the queue continues it first.
    return "running" if run.phase is Phase.RUNNING else "queued"


def _tasks(run: Run) -> tuple[Mapping[str, tuple[TaskState, str]], Mapping[str, tuple[float, float]]]:
    """Return the state, progress, and times of each task that this execution or an earlier one has begun or skipped."""
    states: dict[str, tuple[TaskState, str]] = {}
    times: dict[str, tuple[float, float]] = {}
    began = _changed(run.folder / RUN)
    found = sorted(_folders(run.folder / "tasks"), key=lambda folder: _changed(folder / INPUTS) or _changed(folder))
    for folder in found:
        begun, ended = _changed(folder / INPUTS), _changed(folder / STATE)
        state = _task_states.read(folder / STATE) if ended else None
        if state and run.phase is Phase.RUNNING and state.phase is not Phase.SUCCEEDED and ended < began:
            continue  # of an earlier execution; this one has not reached the task yet
        if state is None and not begun:
            continue
        if state is None:
            phase = Phase.RUNNING if run.phase is Phase.RUNNING else Phase.INTERRUPTED
            state, ended = TaskState(phase=phase, seconds=max(0.0, time.time() - begun)), 0.0
        states[folder.name] = (state, _text(folder / PROGRESS).strip())
        times[folder.name] = (begun or ended, ended)
    return states, times


def _quote(run: Run) -> Quote | None:
    planned = _resolved.read(run.task_folder("plan") / OUTPUTS / "parameters" / "resolved")
    if planned:
        return planned.quote
    return _quotes.read(run.folder / QUOTE)


def _report(run: Run) -> EvaluationReport | None:
    name = run.outputs("evaluate").get("report")
    return _reports.read(Path(name)) if name else None


def tuning_folder(run: Run) -> Path | None:
    """Return the folder of the run's tuning, finished or not; None if it has not begun, or was deleted to free the disk."""
    final = _tunings.read(run.task_folder("tune") / INPUTS)
    if final is None:
        return None
    partial = final.with_name(final.name + ".partial")
    return next((folder for folder in (final, partial) if folder.is_dir()), None)


def _tuning_report(tuning: Path | None, report: EvaluationReport | None) -> TuningReport | None:
    own = _tuning_reports.read(tuning / STEP_REPORT) if tuning else None
    return own or (report.tuning if report else None)


def _folders(path: Path) -> list[Path]:
    return [path / name for name in _names(path) if (path / name).is_dir()]


def _names(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path))
    except FileNotFoundError:
        return []


def _changed(file: Path) -> float:
    """Return when a file was last written; 0 if there is none."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except FileNotFoundError:
        return ""
