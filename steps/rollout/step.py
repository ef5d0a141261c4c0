"""The rollout step: a new server beside the old one, asked before it gets the traffic; champion once it answers."""

import json
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common import registry, serving, tracking, volumes
from steps.common.adapters import adapter_sha256
from steps.common.merge import merged
from steps.common.progress import say
from steps.common.resolved import Resolved
from steps.common.step import step
from steps.rollout.processes import start_gateway, start_server
from steps.rollout.smoke import SmokeQuestion, smoke


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
    """Serve the version; where that is done already, only make sure of it.

    Raises:
        RefusedError: the new server failed. What served before serves on, and the alias stays.
    """
    resolved, name = input.resolved, input.resolved.recipe.name
    adapter = Path(input.adapter_folder)
    digest = adapter_sha256(adapter)
    before = serving.server(name)
    if before and before.adapter_sha256 == digest and before.base == resolved.model.uri:
        say(f"{name} version {before.version} is served already")
        gateway = _gateway(resolved)
    else:
        gateway = _switch(input, before, adapter, digest)
    store = tracking.client(resolved.tracking.uri)
    store.set_registered_model_alias(name, registry.CHAMPION, input.version)
    return RolloutOutput(url=gateway.url, model=name)


def _switch(
    input: RolloutInput,  # noqa: A002
    before: serving.Server | None,
    adapter: Path,
    digest: str,
) -> serving.Gateway:
    """Start the new server, ask it, move the traffic, ask again through the gateway, and only then stop the old one."""
    resolved, recipe = input.resolved, input.resolved.recipe
    folder = volumes.serving(recipe.name) / f"version-{input.version}"
    questions = _questions(Path(input.report))
    model = merged(Path(input.base_folder), adapter)
    process = start_server(recipe.name, model, folder, recipe.serve.ready_seconds)
    after = serving.Server(
        name=recipe.name,
        version=input.version,
        run=resolved.run,
        base=resolved.model.uri,
        adapter_sha256=digest,
        folder=str(model),
        process=process,
    )
    try:
        smoke(f"http://127.0.0.1:{process.port}/v1", recipe.name, questions, recipe.evaluate.answer_tokens)
        serving.remember(after)
        gateway = _gateway(resolved)
        smoke(gateway.url, recipe.name, questions[:1], recipe.evaluate.answer_tokens)
    except BaseException:
        if before:
            serving.remember(before)
        elif serving.server(recipe.name):
            serving.forget_server(recipe.name)
        process.stop()
        raise
    if before:
        before.process.stop(seconds=30)
        say(f"version {before.version} is stopped")
    return gateway


def _gateway(resolved: Resolved) -> serving.Gateway:
    """Return the gateway at the recipe's address, started where it is not there."""
    recipe = resolved.recipe
    running = serving.gateway(recipe.name)
    if running and (running.host, running.process.port) == (recipe.serve.host, recipe.serve.port):
        return running
    started = start_gateway(recipe.name, recipe.serve.host, recipe.serve.port)
    if running:
        running.process.stop()
    return started


def _questions(report: Path) -> list[SmokeQuestion]:
    """The recipe's questions; what the candidate answered as expected it has to answer so as a server too."""
    answers = json.loads(report.read_text())["answers"]
    return [SmokeQuestion(a["asked"], a["expect"] if a["candidate_meets"] else "") for a in answers if "expect" in a]
