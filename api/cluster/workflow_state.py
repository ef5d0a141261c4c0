"""The state of a job, from its Workflow and from what its steps have written to the runs volume."""

import base64
import contextlib
import gzip
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from api.jobs.job_place import ENDED as JOB_ENDED
from api.jobs.job_place import JobState, Status, registered_version
from api.jobs.job_record import JobRecord, Wanted
from api.jobs.measurements import measurements_of
from pipelines.cluster.argo_nodes import outputs
from pipelines.cluster.cluster_result import why_failed
from pipelines.cluster.follow import all_tasks
from pipelines.shown.task_state import Phase, TaskState
from steps.common.handover.report import STEP_REPORT, EvaluationReport, TuningRecord, read_report, read_step_report
from steps.common.handover.report_parts import TuningReport
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.kubernetes.workflow_objects import ENDED, ended_at, main_ended_at, reason_to_stop
from steps.common.runtime.errors import GATE_REFUSED, USER_ERROR, UserError
from steps.common.storage import volumes
from steps.tune.report.step_journal import JOURNAL, parse_journal

SUCCEEDED = "Succeeded"
REFUSES = ("evaluate", "register", "rollout")
STOPS: dict[Wanted, Status] = {"pause": "paused", "cancel": "cancelled"}
OVER = {Phase.SUCCEEDED, Phase.FAILED, Phase.SKIPPED, Phase.OMITTED}


def job_state(record: JobRecord, stored: dict[str, Any]) -> JobState:
    """Return the state of a job.

    Args:
        record: of the job.
        stored: the latest of its Workflows, as Argo stores it.
    """
    workflow = with_nodes(stored)
    status = workflow.get("status", {})
    tasks = all_tasks(workflow)
    resolved, tuning = resolved_of(workflow), tuning_folder(workflow)
    report, hardware, times = _report(workflow), hardware_of(workflow), _times(workflow, set(tasks))
    tuned = _tuning_report(tuning, report)
    job_status = _status(record, workflow, tasks)
    failed = job_status == "failed"
    return JobState(
        status=job_status,
        tasks=tasks,
        times=times,
        started=_unix(status.get("startedAt")),
        finished=(main_ended_at(workflow) or ended_at(workflow) or float(record.wanted_at))
        if job_status in JOB_ENDED
        else 0.0,
        message=(reason_to_stop(workflow) or why_failed(workflow)) if failed else "",
        refused=failed and any(tasks[name][0].exit_code == GATE_REFUSED for name in REFUSES if name in tasks),
        quote=resolved.quote if resolved else None,
        node=hardware.node if hardware else "",
        report=report,
        verdict=outputs(workflow, "evaluate").get("verdict", ""),
        version=registered_version(outputs(workflow, "register").get("version", "")),
        url=outputs(workflow, "rollout").get("url", ""),
        trained_tokens=tuned.trained_tokens if tuned else None,
        # Before the tuning has begun, a journal is from another run with the same content.
        measurements=measurements_of(_journal_of(tuning), tuned, times["tune"]) if "tune" in times else (),
    )


def with_nodes(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a Workflow with its nodes decompressed: Argo compresses the nodes of a large one."""
    status = workflow.get("status", {})
    if status.get("nodes") or not (packed := status.get("compressedNodes")):
        return workflow
    nodes = json.loads(gzip.decompress(base64.b64decode(packed)))
    return {**workflow, "status": {**status, "nodes": nodes}}


def main_phase(workflow: dict[str, Any]) -> str:
    """Return the phase of everything but the exit handler, which may still give a node back; empty: it has not begun."""
    status = workflow.get("status", {})
    top = (status.get("nodes") or {}).get(workflow["metadata"]["name"], {})
    whole = status.get("phase", "")
    if top.get("phase") in ENDED:
        return str(top["phase"])
    return str(whole)


def has_ended(workflow: dict[str, Any]) -> bool:
    """Return whether a Workflow has ended, including its exit handler."""
    return workflow.get("status", {}).get("phase") in ENDED


def resolved_of(workflow: dict[str, Any]) -> Resolved | None:
    """Return the run's plan; None until it is made, and if a later release made it."""
    text = outputs(workflow, "plan").get("resolved")
    try:
        return Resolved.read(text, f"run {workflow['metadata']['name']}: its plan") if text else None
    except (ValueError, UserError):
        return None


def hardware_of(workflow: dict[str, Any]) -> Hardware | None:
    """Return the hardware of the run; None until it has some, and if another release wrote it."""
    text = outputs(workflow, "provision").get("hardware")
    try:
        return Hardware.model_validate_json(text) if text else None
    except ValueError:
        return None


def tuning_folder(workflow: dict[str, Any]) -> Path | None:
    """Return the folder of the run's tuning as it will be when it is finished; None until its rows are prepared."""
    resolved, digest = resolved_of(workflow), outputs(workflow, "prepare").get("digest")
    if resolved is None or not digest:
        return None
    from steps.tune.step import tuning_key

    return volumes.tuning(tuning_key(resolved, digest))


def _status(record: JobRecord, workflow: dict[str, Any], tasks: Mapping[str, tuple[TaskState, str]]) -> Status:
    """Return the status. A job counts as paused or cancelled once that is requested, even if its run is still stopping."""
    phase = main_phase(workflow)
    if phase == SUCCEEDED:
        return "succeeded"
    stopped = STOPS.get(record.wanted)
    if phase in ENDED:
        # A step that refused before the stop still counts as refused.
        refused = {state.exit_code for state, _ in tasks.values()} & {USER_ERROR, GATE_REFUSED}
        if stopped and not refused:
            return stopped
        by_a_person = workflow["spec"].get("shutdown") and not refused and not reason_to_stop(workflow)
        return "cancelled" if by_a_person else "failed"
    if stopped:
        return stopped
    if not workflow.get("status", {}).get("startedAt") or phase in ("", "Pending"):
        return "queued"
    return "running" if tasks["plan"][0].phase in OVER else "validating_files"


def _times(workflow: dict[str, Any], tasks: set[str]) -> dict[str, tuple[float, float]]:
    nodes = (workflow.get("status", {}).get("nodes") or {}).values()
    return {
        node["displayName"]: (_unix(node.get("startedAt")), _unix(node.get("finishedAt")))
        for node in nodes
        if node.get("displayName") in tasks
    }


def _report(workflow: dict[str, Any]) -> EvaluationReport | None:
    name = outputs(workflow, "evaluate").get("report")
    try:
        return read_report(Path(name)) if name else None
    except (UserError, OSError):
        return None


def _tuning_report(folder: Path | None, report: EvaluationReport | None) -> TuningReport | None:
    """Return the training's report, or the evaluation's copy of it: the folder may have been deleted to free the disk."""
    if folder is not None and (folder / STEP_REPORT).exists():
        with contextlib.suppress(UserError, OSError):
            return read_step_report(TuningRecord, folder)
    return report.tuning if report else None


def _journal_of(folder: Path | None) -> dict[int, dict[str, float]]:
    """Return what a training has written; `folder` is the finished tuning's, which need not exist yet."""
    places = (folder, folder.with_name(f"{folder.name}.partial")) if folder else ()
    return next((journal for place in places if (journal := _journal(place / JOURNAL))), {})


def _journal(file: Path) -> dict[int, dict[str, float]]:
    try:
        return parse_journal(file.read_bytes(), file)
    except OSError:
        return {}


def _unix(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
