"""The recover workflow: every few minutes, gives the traffic of a rollout that died back to the champion."""

from hera.workflows import DAG, CronWorkflow, WorkflowTemplate

from pipelines.workflows.parameters import SECRETS
from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, ROLLOUT_ACCOUNT, container
from pipelines.workflows.templates import AT_ONCE, MAIN, every_five_minutes, shared_settings
from steps.rollout.recover import recover

NAME = "recover"
TITLE = "Put the traffic back on the champion"
DESCRIPTION = (
    "Puts right what a rollout has left that was killed and not started again: gives the traffic back to the champion, starts "
    "it again if the rollout had stopped it, and deletes the unfinished version."
)
PARAMETERS = [SECRETS]


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    settings = {**shared_settings(TITLE, DESCRIPTION), "pod_gc": AT_ONCE}
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **settings) as template:
        do_recover = container(
            recover,
            CONTROL_IMAGE,
            hours=1,
            memory="256Mi",
            account=ROLLOUT_ACCOUNT,
            mounts=(),
        )
        with DAG(name=MAIN):
            do_recover(name="recover")
    return template


def cron() -> CronWorkflow:
    """Return the CronWorkflow."""
    return every_five_minutes(NAME)
