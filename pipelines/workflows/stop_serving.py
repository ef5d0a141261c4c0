"""The stop-serving workflow: deletes what serves a model. The API starts it when a team deletes the model."""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, ROLLOUT_ACCOUNT, container
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, shared_settings
from steps.plan.quote.deadlines import ROLLOUT_HOURS
from steps.rollout.stop_serving import stop_serving

NAME = "stop-serving"
TITLE = "Stop serving a model"
DESCRIPTION = (
    "Takes the traffic of a model away, and deletes the Deployments of its versions, which stay registered. A rollout of the "
    "model that is under way ends first."
)
PARAMETERS = [Parameter(name="name", value="pet-store", description="Name of the model")]


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **shared_settings(TITLE, DESCRIPTION)) as template:
        do_stop = container(
            stop_serving,
            CONTROL_IMAGE,
            hours=ROLLOUT_HOURS + 1,
            memory="256Mi",
            account=ROLLOUT_ACCOUNT,
            mounts=(),
            asks_registry=False,
        )
        with DAG(name=MAIN):
            do_stop(name="stop-serving", arguments={"name": reference("name")})
    return template
