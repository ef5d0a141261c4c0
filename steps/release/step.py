"""The release step, the workflow's exit handler: gives back what provision took, closes the run's record, tells the end.

It is told nothing but what is known whichever step failed: the run's name, how it ended, and its recipe.
"""

import os
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.read import RecipeError, load
from recipes.recipe import Recipe
from steps.common import cluster, tracking
from steps.common.progress import say
from steps.common.step import step
from steps.release.outcome import Outcome, failure
from steps.release.webhook import tell

ENDINGS = {"Succeeded": "FINISHED", "Failed": "FAILED", "Error": "FAILED"}
WEBHOOK_SETTING = "FINELINE_WEBHOOK"
ARGO_URL_SETTING = "FINELINE_ARGO_URL"


class ReleaseInput(Input):
    """Which run ended, and how."""

    run: Annotated[str, Parameter(description="The run's name")]
    status: Annotated[str, Parameter(description="Succeeded, Failed or Error")]
    recipe: Annotated[str, Parameter(description="The run's recipe")]
    name: Annotated[str, Parameter(description="The model's name, where it is not the recipe's")] = ""
    failures: Annotated[str, Parameter(description="The nodes that failed, as JSON")] = "[]"
    seconds: Annotated[float, Parameter(description="What the run took")] = 0.0


class ReleaseOutput(Output):
    """What was given back, and what became of the run."""

    released: str
    outcome: str


@step
def release(input: ReleaseInput) -> ReleaseOutput:  # noqa: A002 - the name is Argo's
    """Give back what the run took: of machines that were there before, nothing. Safe to run again."""
    recipe = _recipe(input)
    tags = _close(recipe, input) if recipe else {}
    outcome = Outcome(
        run=input.run,
        model=recipe.name if recipe else "",
        state=input.status,
        reason=failure(input.failures) if input.status != "Succeeded" else "",
        version=tags.get("fineline.version", ""),
        url=tags.get("fineline.url", ""),
        seconds=input.seconds,
        cost=None,
        link=_link(input.run),
    )
    say(f"{outcome.in_words()}; the machines were there before, nothing to give back")
    if webhook := os.environ.get(WEBHOOK_SETTING):
        tell(webhook, outcome)
    return ReleaseOutput(released="nothing: the machines were there before", outcome=outcome.in_words())


def _recipe(input: ReleaseInput) -> Recipe | None:  # noqa: A002
    try:
        return load(input.recipe, {"name": input.name} if input.name else {})
    except RecipeError:
        return None  # plan has said what is wrong with it, and took nothing


def _close(recipe: Recipe, input: ReleaseInput) -> dict[str, str]:  # noqa: A002
    """End the run's record, and return what its steps have noted there."""
    store: Any = tracking.client(recipe.registry.tracking_uri or tracking.default_uri())
    experiment = store.get_experiment_by_name(recipe.name)
    found = store.search_runs([experiment.experiment_id], f"tags.`fineline.run` = '{input.run}'") if experiment else []
    tags: dict[str, str] = {}
    for one in found:
        store.set_terminated(one.info.run_id, ENDINGS.get(input.status, "FAILED"))
        tags |= one.data.tags
    return tags


def _link(run: str) -> str:
    argo = os.environ.get(ARGO_URL_SETTING, "").rstrip("/")
    return f"{argo}/workflows/{cluster.namespace()}/{run}" if argo else ""
