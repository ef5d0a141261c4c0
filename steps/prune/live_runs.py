"""The runs that may still need what they have made: those under way, and those that can be resumed or retried."""

import base64
import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from steps.common.kubernetes.cluster_objects import created_at
from steps.common.storage import volumes
from steps.common.storage.retention import is_locked

RUN, LOCK, SUCCEEDED, FAILED = "run.json", ".lock", "Succeeded", "Failed"
# Of a job of `fineline api`: what it was asked for, and what its run goes on with.
JOB, EXECUTIONS = "job.json", "executions.json"


@dataclass(frozen=True)
class LiveRuns:
    """What the runs say, and since when they run."""

    texts: list[str]  # which name folders
    since: float  # start of the oldest one under way, in seconds since 1970; infinite if there is none


def of_workflows(workflows: Iterable[dict[str, Any]], ended: set[str]) -> LiveRuns:
    """Return the runs of a cluster. One that failed is kept for a retry as long as its Workflow exists.

    Args:
        workflows: as Argo stores them.
        ended: phases of Workflows that have ended.
    """
    texts, since = [], float("inf")
    for workflow in workflows:
        phase = workflow.get("status", {}).get("phase")
        if phase == SUCCEEDED:
            continue
        texts.append(json.dumps(workflow))
        if packed := workflow.get("status", {}).get("compressedNodes"):  # Argo's form of a large status
            texts.append(gzip.decompress(base64.b64decode(packed)).decode())
        if phase not in ended:
            since = min(since, created_at(workflow))
    return LiveRuns(texts, since)


def of_this_machine(newer_than: float) -> LiveRuns:
    """Return the runs of this machine that may still need what they have made.

    They are those under way, those begun or resumed lately that have not succeeded, and those of jobs that wait in the queue or
    are paused, however long.

    Args:
        newer_than: seconds since 1970.
    """
    texts, since = [], float("inf")
    for file in (volumes.runs() / "runs").glob(f"*/{RUN}"):
        try:
            record = json.loads(file.read_text())
            started, phase = float(record["started"]), record["phase"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        under_way = is_locked(file.with_name(LOCK))
        if under_way:
            since = min(since, started)
        waits = phase not in (SUCCEEDED, FAILED) and file.with_name(JOB).exists()
        if under_way or waits or (phase != SUCCEEDED and file.stat().st_mtime > newer_than):
            named = [*file.parent.glob("tasks/*/outputs/parameters/*"), *file.parent.glob(EXECUTIONS)]
            texts += [output.read_text(errors="replace") for output in named]
    return LiveRuns(texts, since)
