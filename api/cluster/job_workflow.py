"""A job's Workflows: the first, and one more for each time that it was resumed.

Each carries the job's record, and labels that find it. Admission lets only the API's account write them, see
`argo/base/admission/workflows.yaml`.
"""

from collections.abc import Mapping
from typing import Any

from api.jobs.job_record import JobRecord
from pipelines.cluster import submission
from steps.common.runtime.errors import UserError

MADE_BY, THE_API = "fineline.dev/made-by", "api"
TEAM_LABEL, JOB_LABEL = "fineline.dev/team", "fineline.dev/job"
ATTEMPT_LABEL = "fineline.dev/attempt"  # which of the job's Workflows it is, from 1 on
RECORD = "fineline.dev/job-record"  # annotation: the job's record as JSON
TUNING = (
    "fineline.dev/tuning"  # annotation: the folder of a paused training, which `prune` keeps as long as it is named
)
LONGEST = 63  # characters of a Workflow's name
OF_THE_API = f"{MADE_BY}={THE_API}"


def new_workflow(job: JobRecord, parameters: Mapping[str, str], attempt: int) -> dict[str, Any]:
    """Return a Workflow of a job.

    Its name is fixed, so that to create it again, whoever does it, makes no second one.

    Args:
        job: the job.
        parameters: of the template.
        attempt: which of the job's Workflows it is.
    """
    body: dict[str, Any] = submission.build(job.name, dict(parameters), run=name_of(job.run, attempt)).to_dict()
    labels = {MADE_BY: THE_API, TEAM_LABEL: job.team, JOB_LABEL: job.run, ATTEMPT_LABEL: str(attempt)}
    body["metadata"]["labels"] |= labels
    body["metadata"]["annotations"] = {RECORD: job.model_dump_json()}
    return body


def name_of(run: str, attempt: int) -> str:
    """Return the name of a Workflow of the job with this run; Argo takes as many characters as a label's value has.

    The end of a run's name is its own, and what is left out of a long one is the end of the model's name.
    """
    if attempt == 1:
        return run
    model, _, unique = run.rpartition("-")
    end = f"-{unique}-r{attempt}"
    return f"{model[: LONGEST - len(end)].rstrip('-')}{end}"


def selector(team: str, run: str = "") -> str:
    """Return the selector of a team's Workflows, or of those of one of its jobs."""
    return f"{OF_THE_API},{TEAM_LABEL}={team},{JOB_LABEL}{f'={run}' if run else ''}"


def attempt_of(workflow: Mapping[str, Any]) -> int:
    """Return which of its job's Workflows it is."""
    return int(workflow["metadata"]["labels"][ATTEMPT_LABEL])


def record_of(workflow: Mapping[str, Any]) -> JobRecord:
    """Return the record that a Workflow carries.

    Raises:
        ValueError: it carries none.
        NewerRecordError: a later release wrote it.
    """
    metadata = workflow["metadata"]
    text = (metadata.get("annotations") or {}).get(RECORD, "")
    return JobRecord.read(text, f"Workflow {metadata['name']}, annotation {RECORD}")


def parameters_of(workflow: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters with which a Workflow was created."""
    return {one["name"]: str(one["value"]) for one in workflow["spec"]["arguments"]["parameters"]}


def check_is_of(workflow: Mapping[str, Any] | None, job: JobRecord) -> None:
    """Refuse a Workflow of a job's name that is not the job's.

    Raises:
        UserError: it is somebody else's, or it is gone again.
    """
    labels = (workflow or {}).get("metadata", {}).get("labels") or {}
    if (labels.get(MADE_BY), labels.get(TEAM_LABEL), labels.get(JOB_LABEL)) != (THE_API, job.team, job.run):
        raise UserError(f"a Workflow named {job.run} exists that is not this job's; create the job again")
