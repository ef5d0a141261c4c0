"""The recipe of a job: OpenAI's fields mapped to Fineline's keys, and the keys in the field `recipe`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.jobs.create_body import CreateBody
from api.jobs.recipe_keys import WHERE, check_keys
from api.models.model_names import check_base
from api.openai_errors import ApiError
from recipes.evaluation import HELD_OUT
from recipes.reader import RecipeError, from_tree
from recipes.recipe import Recipe
from recipes.tuning import Tune

# Hyperparameters, and the keys of the recipe that they set; the units may differ.
KEYS = {"n_epochs": "epochs", "batch_size": "batch_tokens", "beta": "beta"}

Find = Callable[[str, str], str]  # (id of a team's file, field that names it) -> its address
RowTokens = Callable[[str], float]  # objective -> mean tokens of a row of the training file


@dataclass(frozen=True)
class JobData:
    """What a recipe needs besides the request: the team's files, and what the place where jobs run refuses."""

    find: Find
    row_tokens: RowTokens
    refused: Mapping[str, str] = field(default_factory=dict)  # keys, and why


def recipe_of(body: CreateBody, name: str, data: JobData) -> Recipe:
    """Return the recipe of a job.

    Args:
        body: the request.
        name: of the model.
        data: finds the files, and says what the place refuses.

    Raises:
        ApiError: the request names something that does not exist, or sets a key that a caller may not set.
    """
    check_base(body.model)
    tree = _own_keys(body.recipe or {}, data.refused)
    method = body.wanted_method
    tune = _part(tree, "tune")
    if method.type == "dpo":
        tune["objective"] = "dpo"
    if body.seed is not None:
        tune["seed"] = body.seed
    rows = _part(tree, "data")
    rows["train"] = data.find(body.training_file, "training_file")
    if body.validation_file:
        rows["validation"] = data.find(body.validation_file, "validation_file")
    _place_tasks(tree, data.find)
    _set_hyperparameters(tune, body, lambda: data.row_tokens("dpo" if method.type == "dpo" else "sft"))
    tree |= {"name": name, "model": body.model}
    try:
        return from_tree(tree, WHERE)
    except RecipeError as error:
        raise ApiError(400, str(error), param=WHERE) from None


def _own_keys(given: dict[str, Any], refused_there: Mapping[str, str]) -> dict[str, Any]:
    """Return a copy of the keys in the field `recipe`, two levels deep, after refusing those that a caller may not set."""
    check_keys(given, refused_there)
    return {key: dict(value) if isinstance(value, dict) else value for key, value in given.items()}


def _part(tree: dict[str, Any], name: str) -> dict[str, Any]:
    part = tree.setdefault(name, {})
    if not isinstance(part, dict):
        raise ApiError(400, f"{WHERE}: {name}: input should be a mapping of keys to values", param=f"{WHERE}.{name}")
    return part


def _place_tasks(tree: dict[str, Any], find: Find) -> None:
    """Replace the file ids in the evaluation's tasks by addresses."""
    evaluate = tree.get("evaluate")
    tasks = evaluate.get("tasks") if isinstance(evaluate, dict) else None
    if not isinstance(evaluate, dict) or not isinstance(tasks, list):
        return
    placed = []
    for number, task in enumerate(tasks):
        if isinstance(task, dict) and task.get("data", HELD_OUT) != HELD_OUT:
            place, named = f"{WHERE}.evaluate.tasks.{number}.data", task["data"]
            ids = named if isinstance(named, list) else [named]
            if not all(isinstance(one, str) for one in ids):
                raise ApiError(
                    400, f"{place}: input should be the id of an uploaded file, or a list of ids", param=place
                )
            found = [find(one, place) for one in ids]
            task = {**task, "data": found if isinstance(named, list) else found[0]}
        placed.append(task)
    evaluate["tasks"] = placed


def _set_hyperparameters(tune: dict[str, Any], body: CreateBody, row_tokens: Callable[[], float]) -> None:
    method = body.wanted_method
    given = method.hyperparameters.model_dump(exclude_none=True)
    where = "hyperparameters" if body.method is None else f"method.{method.type}.hyperparameters"
    for name, key in KEYS.items():
        if name in given and key in tune:
            raise ApiError(
                400,
                f"{where}.{name} and recipe.tune.{key} are the same setting; leave one out",
                param=f"{where}.{name}",
            )
    if epochs := given.get("n_epochs"):
        tune["epochs"] = epochs
    if beta := given.get("beta"):
        tune["beta"] = beta
    if rows := given.get("batch_size"):
        tune["batch_tokens"] = max(8, round(rows * row_tokens()))
    if factor := given.get("learning_rate_multiplier"):
        place = f"{where}.learning_rate_multiplier"
        rate = tune.get("learning_rate", Tune.model_validate({"objective": tune.get("objective", "sft")}).learning_rate)
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise ApiError(
                400, "recipe: tune.learning_rate: input should be a number", param="recipe.tune.learning_rate"
            )
        if not 0 < rate * factor <= 1:
            raise ApiError(
                400,
                f"{place}: {factor:g} times the learning rate {rate:g} is {rate * factor:g}; it must be above 0 and at most 1",
                param=place,
            )
        tune["learning_rate"] = rate * factor
