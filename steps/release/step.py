"""The release step, the workflow's exit handler: gives nodes back, closes the run's record, and reports the outcome.

Its inputs are known whichever step failed: the run's name, how it ended, and its recipe.
"""

import os
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.reader import RecipeError, load
from recipes.recipe import Recipe
from steps.common.kubernetes.workflow_objects import why_stopped
from steps.common.nodes.ledger import NodeCost
from steps.common.registry import tracking
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.secret import read_secret
from steps.common.weights import store
from steps.release.give_back import give_back, wait
from steps.release.outcome import Outcome, failure
from steps.release.webhook import notify

ENDINGS = {"Succeeded": "FINISHED", "Failed": "FAILED", "Error": "FAILED"}
WEBHOOK_SETTING = "FINELINE_WEBHOOK"
ARGO_URL_SETTING = "FINELINE_ARGO_URL"


class ReleaseInput(Input):
    """The run that ended, and how."""

    run: Annotated[str, Parameter(description="The run's name")]
    status: Annotated[str, Parameter(description="Succeeded, Failed or Error")]
    recipe: Annotated[str, Parameter(description="The run's recipe")]
    name: Annotated[str, Parameter(description="The model's name, if it differs from the recipe's")] = ""
    failures: Annotated[str, Parameter(description="The nodes that failed, as JSON")] = "[]"
    seconds: Annotated[float, Parameter(description="How long the run took")] = 0.0


class ReleaseOutput(Output):
    """What was given back, and how the run ended."""

    released: str
    outcome: str


@step
def release(input: ReleaseInput) -> ReleaseOutput:
    """Give back the nodes that were bought for the run; existing nodes are left alone. Safe to repeat.

    Raises:
        UserError: a node is still being paid for; the run's record is closed and its outcome reported all the same.
    """
    recipe = _recipe(input)
    given = give_back(input.run)
    store.release_holds(input.run)
    wait(given)
    cost, problem, bought = given.cost, given.problem, bool(given.requests)
    tags = _close_record(recipe, input, cost) if recipe else {}
    outcome = Outcome(
        run=input.run,
        model=recipe.name if recipe else "",
        state=input.status,
        reason=_reason(input, bought=bought) if input.status != "Succeeded" else "",
        version=tags.get("fineline.version", ""),
        url=tags.get("fineline.url", ""),
        seconds=input.seconds,
        cost=round(cost.dollars, 2) if cost and cost.dollars is not None else None,
        link=_link(input.run),
    )
    released = cost.in_words() if cost else _nothing(problem, bought=bought)
    say(f"{outcome.in_words()}; given back: {released}")
    if webhook := read_secret(WEBHOOK_SETTING):
        notify(webhook, outcome)
    if problem:
        raise UserError(problem)
    return ReleaseOutput(released=released, outcome=outcome.in_words())


def _nothing(problem: str, *, bought: bool) -> str:
    return "unknown" if problem else "nothing: no node was bought" if bought else "nothing: the nodes existed before"


def _reason(input: ReleaseInput, *, bought: bool) -> str:
    """Return why the run did not succeed: why the reaper stopped it, or the message of the step that failed."""
    return (why_stopped(input.run, cluster_settings.namespace()) if bought else "") or failure(input.failures)


def _recipe(input: ReleaseInput) -> Recipe | None:
    try:
        return load(input.recipe, {"name": input.name} if input.name else {})
    except RecipeError:
        return None  # plan has reported what is wrong with it, and nothing was bought


def _close_record(recipe: Recipe, input: ReleaseInput, cost: NodeCost | None) -> dict[str, str]:
    with tracking.telling("the end of the run"):
        return _close(recipe, input, cost)
    return {}


def _close(recipe: Recipe, input: ReleaseInput, cost: NodeCost | None) -> dict[str, str]:
    """End the run's record with its cost, and return the tags that its steps have set."""
    records = tracking.client(recipe.registry.tracking_uri or tracking.default_uri(), tracking.BRIEF)
    experiment = records.get_experiment_by_name(recipe.name)
    found = (
        records.search_runs([experiment.experiment_id], f"tags.`fineline.run` = '{input.run}'") if experiment else []
    )
    tags: dict[str, str] = {}
    for one in found:
        for key, value in _cost_tags(cost).items():
            records.set_tag(one.info.run_id, key, value)
        records.set_terminated(one.info.run_id, ENDINGS.get(input.status, "FAILED"))
        tags |= one.data.tags
    return tags


def _cost_tags(cost: NodeCost | None) -> dict[str, str]:
    if cost is None:
        return {}
    dollars = {} if cost.dollars is None else {"fineline.cost_dollars": f"{cost.dollars:.2f}"}
    types = ", ".join(dict.fromkeys(cost.instance_types))
    return {"fineline.instance_type": types, "fineline.gpu_hours": f"{cost.gpu_hours:.2f}", **dollars}


def _link(run: str) -> str:
    argo = os.environ.get(ARGO_URL_SETTING, "").rstrip("/")
    return f"{argo}/workflows/{cluster_settings.namespace()}/{run}" if argo else ""
