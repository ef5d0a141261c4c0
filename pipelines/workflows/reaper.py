"""The reaper workflow: every few minutes, releases nodes that no run needs any more."""

from hera.workflows import DAG, CronWorkflow, WorkflowTemplate

from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, RELEASE_ACCOUNT, container
from pipelines.workflows.templates import AT_ONCE, MAIN, every_five_minutes, shared_settings
from steps.reap.step import reap

NAME = "reaper"
TITLE = "Release nodes that no run needs"
DESCRIPTION = (
    "Releases nodes that a run's exit handler could not release because the workflow was deleted or the controller "
    "failed. Stops runs that exceed their limit of cost or time."
)


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, **{**shared_settings(TITLE, DESCRIPTION), "pod_gc": AT_ONCE}) as template:
        do_reap = container(
            reap, CONTROL_IMAGE, hours=1, memory="128Mi", account=RELEASE_ACCOUNT, mounts=(), asks_registry=False
        )
        with DAG(name=MAIN):
            do_reap(name="reap")
    return template


def cron() -> CronWorkflow:
    """Return the CronWorkflow."""
    return every_five_minutes(NAME)
