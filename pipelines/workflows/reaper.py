"""The reaper workflow: every few minutes, releases nodes that no run needs any more."""

from hera.workflows import DAG, CronWorkflow, WorkflowTemplate
from hera.workflows import models as m
from hera.workflows.models import WorkflowTemplateRef

from pipelines.workflows.containers import CONTROL_IMAGE, RELEASE_ACCOUNT, container
from pipelines.workflows.templates import MAIN, shared_settings
from steps.reap.step import reap

NAME = "reaper"
TITLE = "Release nodes that no run needs"
DESCRIPTION = (
    "Releases nodes that a run's exit handler could not release because the workflow was deleted or the controller "
    "failed. Stops runs that exceed their limit of cost or time."
)
SCHEDULE = "*/5 * * * *"
LATE_SECONDS = 240
AT_ONCE = m.PodGC(strategy="OnPodSuccess")  # it runs every five minutes, so its pods are not kept for their logs


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, **{**shared_settings(TITLE, DESCRIPTION), "pod_gc": AT_ONCE}) as template:
        do_reap = container(reap, CONTROL_IMAGE, hours=1, memory="128Mi", account=RELEASE_ACCOUNT, of_a_run=False)
        with DAG(name=MAIN):
            do_reap(name="reap")
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
        successful_jobs_history_limit=1,
        failed_jobs_history_limit=3,
        workflow_template_ref=WorkflowTemplateRef(name=NAME),
    )
