"""The rollback workflow: restores an earlier version from the registry, serves it, and makes it champion.

restore ─ (pull) ─ rollout

The base model is mostly there. Without pull, Argo has one step less to start, for which it takes up to ten seconds.
It waits for no run of the model, and takes over from a rollout that is under way.
"""

from hera.workflows import DAG, Parameter, WorkflowTemplate

from pipelines.workflows.parameters import SECRETS, YES_OR_NO
from pipelines.workflows.step_pods.containers import (
    API_KEY,
    CONTROL_IMAGE,
    PULL_HOURS,
    ROLLOUT_ACCOUNT,
    TUNE_IMAGE,
    container,
    pull_container,
)
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, shared_settings
from steps.plan.quote.deadlines import ROLLOUT_HOURS
from steps.restore.step import restore
from steps.rollout.step import rollout

NAME = "rollback"
RESTORE_HOURS = 1
TITLE = "Roll back to an earlier version"
DESCRIPTION = (
    "Serve an earlier registered version and make it champion. The current version serves until then, and is withdrawn: it "
    "is served again only by name, with force."
)
PARAMETERS = [
    Parameter(name="name", value="pet-store", description="Name of the model that is registered and served"),
    Parameter(name="version", value="", description="Version to serve; empty: the previous champion"),
    Parameter(name="why", value="", description="Why; it stands with the version that is withdrawn"),
    Parameter(name="by", value="", description="Who rolls back; it stands with the version that is withdrawn"),
    Parameter(
        name="force", value="false", enum=YES_OR_NO, description="Serve the version even if it has been withdrawn"
    ),
    SECRETS,
]


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(
        name=NAME,
        arguments=PARAMETERS,
        **shared_settings(TITLE, DESCRIPTION),
    ) as template:
        do_restore = container(restore, CONTROL_IMAGE, hours=RESTORE_HOURS, memory="256Mi")
        do_pull = pull_container()
        # The image with torch, since the merged model may have to be built again.
        do_rollout = container(
            rollout,
            TUNE_IMAGE,
            hours=ROLLOUT_HOURS,
            memory="1Gi",
            memory_limit="16Gi",
            account=ROLLOUT_ACCOUNT,
            environment=API_KEY,
        )
        with DAG(name=MAIN):
            # No exit handler releases the hold on the model: it lapses once the last step must have ended.
            held = {"run": "{{workflow.name}}", "hold_hours": str(RESTORE_HOURS + PULL_HOURS + ROLLOUT_HOURS)}
            wanted = {name: reference(name) for name in ("name", "version", "force")}
            found = do_restore(name="restore", arguments={**wanted, **held})
            pulled = do_pull(
                name="pull",
                arguments={"model": found.get_parameter("model"), "files": "all", **held},
                when=f"{found.get_parameter('fetch').value} == true",
            )
            served = do_rollout(
                name="rollout",
                arguments={
                    "resolved": found.get_parameter("resolved"),
                    "base_folder": found.get_parameter("base_folder"),
                    "adapter_folder": found.get_parameter("adapter_folder"),
                    "version": found.get_parameter("version"),
                    "report": found.get_parameter("report"),
                    "back": "true",
                    "by": reference("by"),
                    "why": reference("why"),
                    "secrets": found.get_parameter("secrets"),
                    "run": "{{workflow.name}}",
                },
            )
            found >> pulled >> served
    return template
