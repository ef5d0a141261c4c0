"""The plan step: parameters and recipe to one resolved recipe and a quote, or one line that says what is wrong."""

from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from presets.memory import GIB
from recipes.reader import RecipeError, load
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote, Resolved, ResolvedModel, Tracking
from steps.common.nodes import node_request
from steps.common.registry import tracking
from steps.common.runtime import cluster_settings
from steps.common.runtime.code_version import code_version
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.plan.data.data_file import look
from steps.plan.data.task_files import look_at_tasks
from steps.plan.exportable import check_exportable
from steps.plan.lm_eval.recipe_tasks import asked_too, look_at_lm_eval
from steps.plan.model import check_context, check_tunable, resolve_model
from steps.plan.port import check_port
from steps.plan.quote.quote import quote
from steps.plan.quote.to_buy import in_words as rung_in_words
from steps.plan.serving_plan import in_words as served_in_words
from steps.plan.serving_plan import plan_serving

Choice = Literal["recipe", "true", "false"]
Method = Literal["recipe", "qlora", "lora"]
Buying = Literal["recipe", "on-demand", "spot", "spot-first"]


class PlanInput(Input):
    """What a person sets; an empty value, or "recipe", leaves it to the recipe."""

    run: Annotated[str, Parameter(description="The run's name")] = ""
    recipe: Annotated[str, Parameter(description="YAML text of a recipe, or the name of one that ships")]
    name: Annotated[str, Parameter(description="Name of the registered and served model")] = ""
    model: Annotated[str, Parameter(description="Model preset or URI")] = ""
    data: Annotated[str, Parameter(description="File of training rows")] = ""
    method: Annotated[Method, Parameter(description="How the adapter is tuned")] = "recipe"
    epochs: Annotated[str, Parameter(description="Passes over the training rows")] = ""
    serve: Annotated[Choice, Parameter(description="Serve the new version")] = "recipe"
    capacity: Annotated[Buying, Parameter(description="How GPU nodes are bought")] = "recipe"
    max_cost: Annotated[str, Parameter(description="US dollars that the run may cost")] = ""
    secrets: Annotated[str, Parameter(description="Begin of the names of the Secrets that the steps were given")] = ""


class PlanOutput(Output):
    """The resolved recipe, the base model out of it, the quote in words, and what the run does besides training."""

    resolved: Resolved
    model: ResolvedModel
    quote: str
    buys: bool
    serve: bool
    export: bool


@step
def plan(input: PlanInput) -> PlanOutput:
    """Resolve model, data and hardware, predict memory, time and disk, and open the run's MLflow record.

    Raises:
        UserError: anything that would fail later, in one line.
    """
    resolved = resolve(input)
    if input.run:
        resolved = resolved.model_copy(update={"tracking": _open(resolved)})
    return PlanOutput(
        resolved=resolved,
        model=resolved.model,
        quote=f"{in_words(resolved.quote)}{_to_be_served(resolved)}",
        buys=resolved.quote.provider in node_request.KINDS,
        serve=resolved.recipe.serve.enabled,
        export=resolved.recipe.export.enabled,
    )


def _to_be_served(resolved: Resolved) -> str:
    return f"; served by {served_in_words(resolved.serving_plan)}" if resolved.recipe.serve.enabled else ""


def resolve(input: PlanInput) -> Resolved:
    """Do all of the plan that leaves nothing behind but a copy of data that lie elsewhere, lm-eval's packed tasks among them.

    Raises:
        UserError: anything that would fail later, in one line.
    """
    recipe = _recipe(input)
    check_tunable(recipe.model, recipe.tune.method)
    data, train, held_out = look(recipe.data, recipe.tune.objective)
    tasks, lm_eval = look_at_tasks(recipe), look_at_lm_eval(recipe)
    check_exportable(recipe)
    model = resolve_model(recipe.model)
    check_context(recipe, model.architecture)
    if recipe.serve.enabled and not cluster_settings.serve_image():
        check_port(recipe)
    how = plan_serving(recipe, model)
    return Resolved(
        run=input.run,
        recipe=recipe,
        model=model,
        data=data,
        tasks=tasks,
        lm_eval=lm_eval,
        quote=quote(recipe, model, train, asked_too(held_out, lm_eval)),
        tracking=Tracking(uri=recipe.registry.tracking_uri or tracking.default_uri(), run_id=""),
        code_version=code_version(),
        serving_plan=how,
    )


def _recipe(input: PlanInput) -> Recipe:
    set_by_hand = {
        "name": input.name,
        "model": input.model,
        "data.train": input.data,
        "tune.epochs": input.epochs,
        "compute.max_cost": input.max_cost,
    }
    chosen = {"tune.method": input.method, "serve.enabled": input.serve, "compute.capacity": input.capacity}
    overrides = {key: value for key, value in set_by_hand.items() if value}
    overrides |= {key: value for key, value in chosen.items() if value != "recipe"}
    try:
        recipe = load(input.recipe, overrides)
    except RecipeError as error:
        raise UserError(str(error)) from None
    if input.secrets and input.secrets != recipe.secrets:
        raise UserError(
            f"secrets: the recipe says {recipe.secrets!r} and the run was given the Secrets of {input.secrets!r}; "
            f"set the parameter 'secrets' to {recipe.secrets!r} too"
        )
    return recipe


def in_words(quote: Quote) -> str:
    """Return the quote as one line."""
    legs = ", ".join(f"{leg} {minutes:g} min" for leg, minutes in quote.first.minutes.items() if minutes)
    others = f"; {len(quote.ladder) - 1} more types to fall back on" if len(quote.ladder) > 1 else ""
    return (
        f"{quote.tokens} tokens in {quote.steps} steps on {rung_in_words(quote.first)}: {legs}; "
        f"disk {quote.disk_bytes / GIB:.1f} GiB{others}"
    )


def _open(resolved: Resolved) -> Tracking:
    """Open the run's record, or find it where an earlier attempt of this step has opened it."""
    uri = resolved.tracking.uri
    store = tracking.client(uri)
    experiment = tracking.experiment(store, resolved.recipe.name)
    found = store.search_runs([experiment], f"tags.`fineline.run` = '{resolved.run}'", max_results=1)
    if found:
        return Tracking(uri=uri, run_id=found[0].info.run_id)
    cost = resolved.quote.first.cost
    quoted = {} if cost is None else {"fineline.quoted_dollars": f"{cost:.2f}"}
    tags = {"fineline.run": resolved.run, **quoted}
    run_id = store.create_run(experiment, run_name=resolved.run, tags=tags).info.run_id
    wanted = resolved.recipe.tune.model_dump() | {"model": resolved.model.uri, "data": resolved.data.train.sha256}
    for key, value in wanted.items():
        store.log_param(run_id, key, value)
    return Tracking(uri=uri, run_id=run_id)
