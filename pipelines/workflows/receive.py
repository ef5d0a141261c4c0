"""The receive workflow: takes a local data file that `fineline submit` sends, and keeps it on the runs volume."""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, RUNS, container
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, listener_settings
from steps.receive.step import receive

NAME = "receive"
TITLE = "Receive a data file"
DESCRIPTION = (
    "Receive a data file of another machine. 'fineline submit' starts it, and sends the file through a port-forward."
)
PARAMETERS = [
    Parameter(name="file", value="", description="Name of the file, without a folder"),
    Parameter(name="sha256", value="", description="SHA-256 of the file, in hex"),
    Parameter(name="size", value="0", description="Size of the file in bytes"),
    Parameter(name="token_sha256", value="", description="SHA-256 of the token that the sender shows, in hex"),
]


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **listener_settings(TITLE, DESCRIPTION)) as template:
        # Not tried again: the sender has lost its connection too.
        do_receive = container(
            receive, CONTROL_IMAGE, hours=6, memory="128Mi", losses=0, mounts=[RUNS], asks_registry=False
        )
        with DAG(name=MAIN):
            given = {name: reference(name) for name in ("file", "sha256", "size", "token_sha256")}
            do_receive(name="receive", arguments=given)
    return template
