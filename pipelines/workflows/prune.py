"""The prune workflow: every night, frees the runs volume of what nothing needs any more and what can be made again."""

from hera.workflows import DAG, CronWorkflow, Parameter, WorkflowTemplate
from hera.workflows.models import WorkflowTemplateRef

from pipelines.workflows.parameters import SECRETS, YES_OR_NO
from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, PRUNE_ACCOUNT, container
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, shared_settings
from steps.prune.step import prune

NAME = "prune"
TITLE = "Free the runs volume"
DESCRIPTION = (
    "Deletes merged models, tunings, prepared rows, and restored versions that were not used for a while and that no server, "
    "no version that is kept, and no run needs. Data that was sent, exports, and reports stay."
)
PARAMETERS = [
    Parameter(
        name="keep",
        value="",
        description="How many of each model's latest versions to keep; empty: the setting FINELINE_PRUNE_KEEP, else 3",
    ),
    Parameter(
        name="days",
        value="",
        description="Days for which what was used is kept; empty: the setting FINELINE_PRUNE_DAYS, else 7",
    ),
    Parameter(name="dry_run", value="false", enum=YES_OR_NO, description="Only say what would be deleted"),
    SECRETS,
]
SCHEDULE = "30 1 * * *"
LATE_SECONDS = 6 * 3600


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **shared_settings(TITLE, DESCRIPTION)) as template:
        do_prune = container(prune, CONTROL_IMAGE, hours=2, memory="512Mi", account=PRUNE_ACCOUNT)
        with DAG(name=MAIN):
            do_prune(name="prune", arguments={name: reference(name) for name in ("keep", "days", "dry_run")})
    return template


def cron() -> CronWorkflow:
    """Return the CronWorkflow."""
    return CronWorkflow(
        name=NAME,
        labels={"app.kubernetes.io/part-of": "fineline"},
        schedules=[SCHEDULE],
        timezone="Etc/UTC",
        concurrency_policy="Forbid",
        starting_deadline_seconds=LATE_SECONDS,
        successful_jobs_history_limit=3,
        failed_jobs_history_limit=3,
        workflow_template_ref=WorkflowTemplateRef(name=NAME),
    )
