"""The plan step: from parameters and recipe to one resolved recipe with a quote, or one line that says what is wrong."""

from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from presets.memory import GIB
from recipes.reader import RecipeError, load
from recipes.recipe import Recipe
from steps.common.handover.installation import check_secrets, needs_api_key
from steps.common.handover.resolved import Quote, Resolved, ResolvedModel, Tracking
from steps.common.nodes import node_provider
from steps.common.registry import tracking
from steps.common.registry.allowed_registries import check_allowed
from steps.common.runtime import cluster_settings
from steps.common.runtime.code_version import code_version
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import write_text
from steps.plan.addresses import kept
from steps.plan.check_recipe import CheckScope, check_recipe
from steps.plan.model import pinned_model, resolved_chat
from steps.plan.plan_size import refuse_large_plan
from steps.plan.quote.quote import quote
from steps.plan.quote.to_buy import in_words as rung_in_words
from steps.plan.serving_plan import in_words as serving_in_words

RESOLVED_FILE = "resolved.json"  # in the run's folder: the plan that the command made before it created the run

Choice = Literal["recipe", "true", "false"]
Method = Literal["recipe", "qlora", "lora"]
Buying = Literal["recipe", "on-demand", "spot", "spot-first"]


class PlanInput(Input):
    """The parameters of a run. An empty value, or "recipe", leaves the choice to the recipe."""

    run: Annotated[str, Parameter(description="Name of the run")] = ""
    recipe: Annotated[str, Parameter(description="Recipe as YAML text, or the name of one that ships with Fineline")]
    name: Annotated[str, Parameter(description="Name of the model that is registered and served")] = ""
    model: Annotated[str, Parameter(description="Base model: a preset or a URI")] = ""
    data: Annotated[str, Parameter(description="Training rows: a file, a folder, a pattern, or a list in brackets")] = (
        ""
    )
    method: Annotated[Method, Parameter(description="How the adapter is tuned")] = "recipe"
    epochs: Annotated[str, Parameter(description="Passes over the training rows")] = ""
    serve: Annotated[Choice, Parameter(description="Serve the new version")] = "recipe"
    capacity: Annotated[Buying, Parameter(description="How GPU nodes are bought")] = "recipe"
    max_cost: Annotated[str, Parameter(description="Budget of the run in US dollars")] = ""
    secrets: Annotated[str, Parameter(description="Prefix of the Secrets that the steps read")] = ""


class PlanOutput(Output):
    """The resolved recipe, its base model, the quote in words, and which of the optional steps will run."""

    resolved: Resolved
    model: ResolvedModel
    quote: str
    buys: bool
    serve: bool
    export: bool
    secrets: str  # prefix of the Secrets that rollout reads


@step
def plan(input: PlanInput) -> PlanOutput:
    """Resolve model, data and hardware, predict memory, time and disk, and open the run's MLflow record.

    Raises:
        UserError: anything that would fail later, in one line.
        UnreachableError: a source, or MLflow, does not answer.
    """
    resolved = _handed_over(input) or resolve(input)
    if input.run:
        resolved = resolved.model_copy(update={"run": input.run, "tracking": _open(resolved, input.run)})
    return PlanOutput(
        resolved=resolved,
        model=resolved.model,
        quote=f"{in_words(resolved.quote)}{_serving(resolved)}",
        buys=node_provider.buys(resolved.quote.provider),
        serve=resolved.recipe.serve.enabled,
        export=resolved.recipe.export.enabled,
        secrets=resolved.recipe.secrets,
    )


def _serving(resolved: Resolved) -> str:
    return f"; served by {serving_in_words(resolved.serving_plan)}" if resolved.recipe.serve.enabled else ""


def resolve(input: PlanInput) -> Resolved:
    """Do the part of the plan that leaves nothing behind but copies of remote data and packed lm-eval tasks.

    Raises:
        UserError: anything that would fail later, in one line.
    """
    recipe = _recipe(input)
    check_secrets(recipe)
    uri = recipe.registry.tracking_uri or tracking.default_uri()
    check_allowed(uri, tracking.default_uri())
    if recipe.serve.enabled:
        needs_api_key(recipe)
    checked = check_recipe(recipe, CheckScope(serves_here=not cluster_settings.in_cluster()))
    model = pinned_model(recipe.model, checked.model)
    resolved = Resolved(
        run=input.run,
        recipe=kept(recipe),
        model=model,
        chat=resolved_chat(recipe),
        data=checked.data.files,
        tasks=checked.tasks,
        lm_eval=checked.packed_tasks,
        quote=quote(recipe, model, checked.data.train, checked.held_out),
        tracking=Tracking(uri=tracking.kept_uri(uri), run_id=""),
        code_version=code_version(),
        serving_plan=checked.serving_plan,
    )
    if cluster_settings.in_cluster():
        refuse_large_plan(resolved)
    say(checked.long_rows)  # last: a refusal is one line
    return resolved


def hand_over(resolved: Resolved, run: str) -> None:
    """Save the plan in the folder of a run on this machine, so that the run's plan step need not make it again."""
    write_text(volumes.run_folder(run) / RESOLVED_FILE, resolved.model_dump_json())


def _handed_over(input: PlanInput) -> Resolved | None:
    """Take the plan that the command made for this run; None if there is none, or if it is for other inputs.

    It is taken once: when the step is run again, settings and data may have been corrected meanwhile.
    """
    if not input.run:
        return None
    file = volumes.run_folder(input.run) / RESOLVED_FILE
    try:
        found = Resolved.read(file.read_text(), file)
    except (FileNotFoundError, ValueError):
        return None
    file.unlink()
    return found if found.recipe == kept(_recipe(input)) and found.code_version == code_version() else None


def _recipe(input: PlanInput) -> Recipe:
    values = {
        "name": input.name,
        "model": input.model,
        "data.train": input.data,
        "tune.epochs": input.epochs,
        "compute.max_cost": input.max_cost,
    }
    choices = {"tune.method": input.method, "serve.enabled": input.serve, "compute.capacity": input.capacity}
    overrides = {key: value for key, value in values.items() if value}
    overrides |= {key: value for key, value in choices.items() if value != "recipe"}
    try:
        recipe = load(input.recipe, overrides)
    except RecipeError as error:
        raise UserError(str(error)) from None
    if input.secrets and input.secrets != recipe.secrets:
        raise UserError(
            f"secrets: the recipe names {recipe.secrets!r} and the run's parameter 'secrets' names {input.secrets!r}; set "
            f"the parameter to {recipe.secrets!r} too"
        )
    return recipe


def in_words(quote: Quote) -> str:
    """Return the quote as one line."""
    legs = ", ".join(f"{leg} {minutes:g} min" for leg, minutes in quote.first.minutes.items() if minutes)
    others = f"; {len(quote.ladder) - 1} more types to fall back on" if len(quote.ladder) > 1 else ""
    return f"{quote.training} on {rung_in_words(quote.first)}: {legs}; disk {quote.disk_bytes / GIB:.1f} GiB{others}"


def _open(resolved: Resolved, run: str) -> Tracking:
    """Create the run's MLflow record, or find it if an earlier attempt of this step created it."""
    uri = resolved.tracking.uri
    store = tracking.client(uri, tracking.QUICK)
    experiment = tracking.experiment(store, resolved.recipe.name)
    found = store.search_runs([experiment], f"tags.`fineline.run` = '{run}'", max_results=1)
    if found:
        return Tracking(uri=uri, run_id=found[0].info.run_id)
    cost = resolved.quote.first.cost
    quoted = {} if cost is None else {"fineline.quoted_dollars": f"{cost:.2f}"}
    run_id = store.create_run(experiment, run_name=run, tags={"fineline.run": run, **quoted}).info.run_id
    parameters = resolved.recipe.tune.model_dump() | {"model": resolved.model.uri, "data": resolved.data.train_sha256}
    with tracking.telling("the run's parameters"):
        from mlflow.entities import Param

        store.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    return Tracking(uri=uri, run_id=run_id)
