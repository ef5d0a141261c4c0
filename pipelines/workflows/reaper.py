"""The reaper: every few minutes, machines that no run needs any more are given back."""

from hera.workflows import DAG, CronWorkflow, WorkflowTemplate
from hera.workflows import models as m
from hera.workflows.models import WorkflowTemplateRef

from pipelines.workflows.containers import CONTROL_IMAGE, RELEASE_ACCOUNT, container
from pipelines.workflows.templates import MAIN, common
from steps.reap.step import reap

NAME = "reaper"
TITLE = "Give machines back that no run needs"
DESCRIPTION = (
    "What a run's exit handler has not given back, since the workflow was deleted or its controller was lost, "
    "is given back here; a run that is over its limit of cost or time is told to stop."
)
SCHEDULE = "*/5 * * * *"
LATE_SECONDS = 240
AT_ONCE = m.PodGC(strategy="OnPodSuccess")  # it runs every five minutes: its pods need not stay for their logs


def build() -> WorkflowTemplate:
    """Return the template; deterministic, and free of heavy imports."""
    with WorkflowTemplate(name=NAME, **{**common(TITLE, DESCRIPTION), "pod_gc": AT_ONCE}) as template:
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
