"""The release step, the workflow's exit handler: gives back what provision took, closes the run's record, tells the end.

It is told nothing but what is known whichever step failed: the run's name, how it ended, and its recipe.
"""

import os
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.reader import RecipeError, load
from recipes.recipe import Recipe
from steps.common.kubernetes.workflow_objects import why_stopped
from steps.common.nodes.ledger import Paid
from steps.common.registry import tracking
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.weights import store
from steps.release.outcome import Outcome, failure
from steps.release.take_back import take_back, wait
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
def release(input: ReleaseInput) -> ReleaseOutput:
    """Give back what the run took: of machines that were there before, nothing. Safe to run again.

    Raises:
        UserError: something that is paid for is still there; the run's record is closed and its outcome told all the same.
    """
    recipe = _recipe(input)
    taken = take_back(input.run)
    store.release_holds(input.run)
    wait(taken)
    cost, left, asked = taken.paid, taken.left, bool(taken.asked)
    tags = _noted(recipe, input, cost) if recipe else {}
    outcome = Outcome(
        run=input.run,
        model=recipe.name if recipe else "",
        state=input.status,
        reason=_reason(input, asked=asked) if input.status != "Succeeded" else "",
        version=tags.get("fineline.version", ""),
        url=tags.get("fineline.url", ""),
        seconds=input.seconds,
        cost=round(cost.cost, 2) if cost and cost.cost is not None else None,
        link=_link(input.run),
    )
    released = cost.in_words() if cost else _nothing(left, asked=asked)
    say(f"{outcome.in_words()}; given back: {released}")
    if webhook := os.environ.get(WEBHOOK_SETTING):
        tell(webhook, outcome)
    if left:
        raise UserError(left)
    return ReleaseOutput(released=released, outcome=outcome.in_words())


def _nothing(left: str, *, asked: bool) -> str:
    return "unknown" if left else "nothing: no machine came" if asked else "nothing: the machines were there before"


def _reason(input: ReleaseInput, *, asked: bool) -> str:
    """Return why the run did not succeed: what the reaper has stopped it for, or the last word of the step that failed."""
    return (why_stopped(input.run, cluster_settings.namespace()) if asked else "") or failure(input.failures)


def _recipe(input: ReleaseInput) -> Recipe | None:
    try:
        return load(input.recipe, {"name": input.name} if input.name else {})
    except RecipeError:
        return None  # plan has said what is wrong with it, and took nothing


def _noted(recipe: Recipe, input: ReleaseInput, cost: Paid | None) -> dict[str, str]:
    try:
        return _close(recipe, input, cost)
    except Exception as error:  # whatever keeps MLflow from answering: a run that went well does not fail by it
        say(f"the run's record in MLflow could not be closed: {' '.join(str(error).split())[:300]}")
        return {}


def _close(recipe: Recipe, input: ReleaseInput, paid: Paid | None) -> dict[str, str]:
    """End the run's record, with what it has cost, and return what its steps have noted there."""
    records: Any = tracking.client(recipe.registry.tracking_uri or tracking.default_uri())
    experiment = records.get_experiment_by_name(recipe.name)
    found = (
        records.search_runs([experiment.experiment_id], f"tags.`fineline.run` = '{input.run}'") if experiment else []
    )
    tags: dict[str, str] = {}
    for one in found:
        for key, value in _costs(paid).items():
            records.set_tag(one.info.run_id, key, value)
        records.set_terminated(one.info.run_id, ENDINGS.get(input.status, "FAILED"))
        tags |= one.data.tags
    return tags


def _costs(paid: Paid | None) -> dict[str, str]:
    if paid is None:
        return {}
    cost = {} if paid.cost is None else {"fineline.cost_dollars": f"{paid.cost:.2f}"}
    types = ", ".join(dict.fromkeys(paid.instance_types))
    return {"fineline.instance_type": types, "fineline.gpu_hours": f"{paid.gpu_hours:.2f}", **cost}


def _link(run: str) -> str:
    argo = os.environ.get(ARGO_URL_SETTING, "").rstrip("/")
    return f"{argo}/workflows/{cluster_settings.namespace()}/{run}" if argo else ""
