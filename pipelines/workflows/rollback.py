"""Back to an earlier version: out of the registry, in front of the users, under the champion's alias.

restore ─ pull ─ rollout
"""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.containers import (
    API_KEY,
    CONTROL_IMAGE,
    ROLLOUT_ACCOUNT,
    TUNE_IMAGE,
    container,
    pull_container,
)
from pipelines.workflows.parameters import RUN, reference
from pipelines.workflows.templates import MAIN, common, one_at_a_time
from steps.restore.step import restore
from steps.rollout.step import rollout

NAME = "rollback"
TITLE = "Go back to an earlier version"
DESCRIPTION = (
    "Serve a version that was registered before, and make it champion; the one that serves now serves until then."
)
PARAMETERS = [
    Parameter(name="name", value="pet-store", description="Name of the registered and served model"),
    Parameter(name="version", value="", description="Version to go to; empty: the champion before the one that is"),
    *(parameter for parameter in RUN if parameter.name == "secrets"),
]


def build() -> WorkflowTemplate:
    """Return the template; deterministic, and free of heavy imports."""
    with WorkflowTemplate(
        name=NAME,
        arguments=PARAMETERS,
        synchronization=one_at_a_time(reference("name")),
        **common(TITLE, DESCRIPTION),
    ) as template:
        do_restore = container(restore, CONTROL_IMAGE, hours=1, memory="256Mi")
        do_pull = pull_container()
        # With torch, since the merged model may have to be made again.
        do_rollout = container(rollout, TUNE_IMAGE, hours=2, memory="1Gi", account=ROLLOUT_ACCOUNT, environment=API_KEY)
        with DAG(name=MAIN):
            found = do_restore(name="restore", arguments={"name": reference("name"), "version": reference("version")})
            # No exit handler lets go of the model: the rollout is over by then.
            wanted = {
                "model": found.get_parameter("model"),
                "files": "all",
                "run": "{{workflow.name}}",
                "hold_hours": "15",
            }
            pulled = do_pull(name="pull", arguments=wanted)
            served = do_rollout(
                name="rollout",
                arguments={
                    "resolved": found.get_parameter("resolved"),
                    "base_folder": pulled.get_parameter("folder"),
                    "adapter_folder": found.get_parameter("adapter_folder"),
                    "version": found.get_parameter("version"),
                    "report": found.get_parameter("report"),
                    "back": "true",
                    "run": "{{workflow.name}}",
                },
            )
            found >> pulled >> served
    return template
