"""Serves a version by two processes of this machine: a model server, and the gateway whose address stays."""

from pathlib import Path

from steps.common import serving, volumes
from steps.common.merge import merged
from steps.common.progress import say
from steps.common.resolved import Resolved
from steps.rollout.processes import start_gateway, start_server
from steps.rollout.smoke import SmokeQuestion, smoke


def serve(
    resolved: Resolved, version: int, base: Path, adapter: Path, digest: str, questions: list[SmokeQuestion]
) -> str:
    """Serve the version; where that is done already, only make sure of it.

    Args:
        resolved: the recipe, and what it was resolved to.
        version: the registered version.
        base: folder of the base model.
        adapter: folder of the adapter.
        digest: hash of the adapter's weights.
        questions: asked before the traffic moves.

    Returns:
        The base URL of the OpenAI API.

    Raises:
        RefusedError: the new server failed. What served before serves on.
    """
    name = resolved.recipe.name
    before = serving.server(name)
    if before and before.adapter_sha256 == digest and before.base == resolved.model.uri:
        say(f"{name} version {before.version} is served already")
        return _gateway(resolved).url
    model = merged(base, adapter)
    folder = volumes.serving(name) / f"version-{version}"
    process = start_server(name, model, folder, resolved.recipe.serve.ready_seconds)
    after = serving.Server(
        name=name,
        version=version,
        run=resolved.run,
        base=resolved.model.uri,
        adapter_sha256=digest,
        folder=str(model),
        process=process,
    )
    return _switch(resolved, before, after, questions)


def _switch(
    resolved: Resolved, before: serving.Server | None, after: serving.Server, questions: list[SmokeQuestion]
) -> str:
    """Ask the new server, move the traffic, ask again through the gateway, and only then stop the old one."""
    recipe, process = resolved.recipe, after.process
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
    return gateway.url


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
