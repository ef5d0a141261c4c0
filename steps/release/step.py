"""The release step, the workflow's exit handler: gives back what provision took and closes the run's record.

It is told nothing but the run's name, how the run ended and its recipe, since the step whose output would tell more
may be the one that failed.
"""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.read import RecipeError, load
from steps.common import tracking
from steps.common.progress import say
from steps.common.step import step

ENDINGS = {"Succeeded": "FINISHED", "Failed": "FAILED", "Error": "FAILED"}


class ReleaseInput(Input):
    """Which run ended, and how."""

    run: Annotated[str, Parameter(description="The run's name")]
    status: Annotated[str, Parameter(description="Succeeded, Failed or Error")]
    recipe: Annotated[str, Parameter(description="The run's recipe")]


class ReleaseOutput(Output):
    """What was given back."""

    released: str


@step
def release(input: ReleaseInput) -> ReleaseOutput:  # noqa: A002 - the name is Argo's
    """Give back what the run took: on one machine nothing. Safe to run again."""
    try:
        recipe = load(input.recipe)
    except RecipeError:
        return ReleaseOutput(released="nothing: the recipe could not be read, so nothing was taken")
    store = tracking.client(recipe.registry.tracking_uri or tracking.default_uri())
    experiment = store.get_experiment_by_name(recipe.name)
    if experiment:
        for found in store.search_runs([experiment.experiment_id], f"tags.`fineline.run` = '{input.run}'"):
            store.set_terminated(found.info.run_id, ENDINGS.get(input.status, "FAILED"))
    say(f"run {input.run} {input.status.lower()}; the machine is as it was, nothing to give back")
    return ReleaseOutput(released="nothing: this machine was here before")
