"""The rollout step: a new server beside the old one, asked before it gets the traffic; champion once it answers."""

import json
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common import cluster, registry, tracking
from steps.common.adapters import adapter_sha256
from steps.common.resolved import Resolved
from steps.common.step import step
from steps.rollout.smoke import SmokeQuestion


class RolloutInput(Input):
    """The version to serve."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the version's adapter")]
    version: Annotated[int, Parameter(description="The registered version")]
    report: Annotated[str, Parameter(description="File of the evaluation's report")]


class RolloutOutput(Output):
    """Where it is served."""

    url: str
    model: str


@step
def rollout(input: RolloutInput) -> RolloutOutput:  # noqa: A002 - the name is Argo's
    """Serve the version, by Deployments in a cluster and by processes elsewhere, and make it champion.

    Raises:
        RefusedError: the new server failed. What served before serves on, and the alias stays.
    """
    resolved, name = input.resolved, input.resolved.recipe.name
    base, adapter = Path(input.base_folder), Path(input.adapter_folder)
    if cluster.serve_image():
        from steps.rollout.deployment import serve
    else:
        from steps.rollout.machine import serve
    url = serve(resolved, input.version, base, adapter, adapter_sha256(adapter), _questions(Path(input.report)))
    store = tracking.client(resolved.tracking.uri)
    registry.make_champion(store, name, input.version)
    if resolved.tracking.run_id:
        store.set_tag(resolved.tracking.run_id, "fineline.url", url)
    return RolloutOutput(url=url, model=name)


def _questions(report: Path) -> list[SmokeQuestion]:
    """The recipe's questions; what the candidate answered as expected it has to answer so as a server too."""
    answers = json.loads(report.read_text())["answers"]
    return [SmokeQuestion(a["asked"], a["expect"] if a["candidate_meets"] else "") for a in answers if "expect" in a]
