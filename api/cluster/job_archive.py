"""Jobs on the runs volume, in the folders of their runs: Argo deletes a Workflow some days after its end."""

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from api.cluster.job_workflow import RECORD, TUNING
from api.jobs.job_record import JobRecord
from steps.common.kubernetes.workflow_objects import STOPPED
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.storage.files import write_text

JOB, WORKFLOW = "job.json", "workflow.json"
# Between two looks at the volume: what another process keeps is a Workflow for days yet.
LIST_SECONDS = 600.0
OF_METADATA = ("name", "namespace", "creationTimestamp", "labels")
OF_SPEC = ("workflowTemplateRef", "arguments", "shutdown")
OF_STATUS = ("phase", "message", "startedAt", "finishedAt")
OF_NODES = (
    "id",
    "name",
    "displayName",
    "type",
    "templateName",
    "phase",
    "startedAt",
    "finishedAt",
    "message",
    "progress",
    "outputs",
)


class JobArchive:
    """What is kept of ended jobs: the record, and of the latest Workflow what a job's state is read from."""

    def __init__(self) -> None:
        self._records: dict[str, JobRecord] = {}  # by run
        self._listed = float("-inf")
        self._writing = threading.Lock()

    def save(self, record: JobRecord, workflow: dict[str, Any]) -> None:
        """Keep a job whose latest Workflow has ended. Safe to repeat."""
        folder, texts = volumes.run_folder(record.run), {WORKFLOW: json.dumps(kept_of(workflow))}
        # The record last: by it a job is found.
        texts[JOB] = record.model_dump_json(indent=2) + "\n"
        with self._writing:
            for name, text in texts.items():
                if _text(folder / name) != text:
                    write_text(folder / name, text)
            self._records[record.run] = record

    def save_record(self, record: JobRecord) -> None:
        """Replace the record of a job that is kept."""
        with self._writing:
            write_text(volumes.run_folder(record.run) / JOB, record.model_dump_json(indent=2) + "\n")
            self._records[record.run] = record

    def record(self, team: str, run: str) -> JobRecord | None:
        """Return the record of a team's job; None if it is not kept."""
        found = _record(volumes.run_folder(run) / JOB)
        return found if found and found.team == team else None

    def records(self, team: str) -> list[JobRecord]:
        """Return the records of a team's jobs. Those that other processes keep are seen some minutes later."""
        if time.monotonic() - self._listed > LIST_SECONDS:
            files = (volumes.runs() / "runs").glob(f"*/{JOB}")
            found = {record.run: record for file in files if (record := _record(file))}
            with self._writing:
                self._records, self._listed = found, time.monotonic()
        return [record for record in list(self._records.values()) if record.team == team]

    def changed(self, run: str) -> int:
        """Return when what is kept of a job was last changed; 0 if nothing is kept."""
        try:
            return (volumes.run_folder(run) / JOB).stat().st_mtime_ns
        except OSError:
            return 0

    def workflow(self, run: str) -> dict[str, Any] | None:
        """Return the latest Workflow of a job; None if it is not kept."""
        text = _text(volumes.run_folder(run) / WORKFLOW)
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found


def kept_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return what a job's state is read from: without the templates and the inputs of the steps."""
    metadata, status = workflow["metadata"], workflow.get("status", {})
    notes = {key: text for key, text in (metadata.get("annotations") or {}).items() if key in (RECORD, TUNING, STOPPED)}
    nodes = {
        key: {name: node[name] for name in OF_NODES if name in node}
        for key, node in (status.get("nodes") or {}).items()
    }
    return {
        "metadata": {**{key: metadata[key] for key in OF_METADATA if key in metadata}, "annotations": notes},
        "spec": {key: workflow["spec"][key] for key in OF_SPEC if key in workflow["spec"]},
        "status": {**{key: status[key] for key in OF_STATUS if key in status}, "nodes": nodes},
    }


def _record(file: Path) -> JobRecord | None:
    with contextlib.suppress(OSError, ValueError, UserError):
        return JobRecord.read(file.read_text(encoding="utf-8"), file)
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
