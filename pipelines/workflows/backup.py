"""The backup workflow: sends a backup of the namespace to the command that asks for it, or brings one back that it sends."""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.parameters import SECRETS
from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, RUNS, container
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, listener_settings
from steps.backup.step import CREATE, RESTORE, backup

NAME = "backup"
TITLE = "Save the namespace, or bring it back"
DESCRIPTION = (
    "Send a backup of the registry and of what else cannot be made again, or bring one back. 'fineline backup' starts it, and "
    "takes or sends the backup through a port-forward."
)
PARAMETERS = [
    Parameter(name="action", value=CREATE, enum=[CREATE, RESTORE], description="Send a backup, or bring one back"),
    Parameter(name="size", value="0", description="Size in bytes of the backup that is brought back"),
    Parameter(name="token_sha256", value="", description="SHA-256 of the token that the command shows, in hex"),
    SECRETS,
]


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(name=NAME, arguments=PARAMETERS, **listener_settings(TITLE, DESCRIPTION)) as template:
        # Not tried again: the command has lost its connection too.
        do_backup = container(backup, CONTROL_IMAGE, hours=12, memory="512Mi", losses=0, mounts=[RUNS])
        with DAG(name=MAIN):
            do_backup(name="backup", arguments={name: reference(name) for name in ("action", "size", "token_sha256")})
    return template
