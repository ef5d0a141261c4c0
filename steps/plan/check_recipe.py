"""Checks a whole recipe. Every command and step that takes one calls `check_recipe`, so a new check belongs in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from recipes.recipe import Recipe
from steps.common.handover.resolved import DataFile, DataSource, KnownModel, ServingPlan
from steps.plan.addresses import check_addresses
from steps.plan.data.data_file import DataSize, InspectedData, inspect_data
from steps.plan.data.local_files import LocalFiles
from steps.plan.data.task_files import inspect_tasks
from steps.plan.exportable import check_exportable
from steps.plan.lengths.row_lengths import check_lengths
from steps.plan.lm_eval.recipe_tasks import asked_too, packed_file
from steps.plan.model import check_context, check_tunable, known_model, listed_files, resolved_chat
from steps.plan.quote.deadlines import check_rollout
from steps.plan.serving_plan import ServingSettings, plan_serving


@dataclass(frozen=True)
class CheckScope:
    """What can be checked from where the recipe is. The run's own plan step checks the rest."""

    readable: Callable[[str], bool] = lambda _: True  # whether a file or a model can be read from here
    serving: ServingSettings | None = field(default_factory=ServingSettings.of_environment)  # None: not known here
    serves_here: bool = False  # the run takes place on this machine


@dataclass(frozen=True)
class CheckedRecipe:
    """A recipe that has passed every check in its scope, with what the checks have read."""

    recipe: Recipe
    tasks: list[DataSource | None]  # None: the task uses the held-out rows, or its rows are out of scope
    lm_eval: list[DataFile | None]  # packed; None: out of scope
    model_in_scope: KnownModel | None
    data_in_scope: InspectedData | None
    serving_in_scope: ServingPlan | None
    long_rows: str = ""  # how many rows are too long, in words; empty: out of scope
    local: LocalFiles = field(default_factory=LocalFiles)  # what is known of this machine's files of rows

    @property
    def model(self) -> KnownModel:
        """The base model."""
        return _in_scope(self.model_in_scope)

    @property
    def data(self) -> InspectedData:
        """The data files and the sizes of their rows."""
        return _in_scope(self.data_in_scope)

    @property
    def packed_tasks(self) -> list[DataFile]:
        """The tasks of lm-eval, packed, in the recipe's order."""
        return [_in_scope(file) for file in self.lm_eval]

    @property
    def held_out(self) -> DataSize:
        """The size of the held-out rows, with what the tasks of lm-eval add to an evaluation."""
        return asked_too(self.data.held_out, self.packed_tasks)

    @property
    def serving_plan(self) -> ServingPlan:
        """How the version will be served."""
        return _in_scope(self.serving_in_scope)


def check_recipe(recipe: Recipe, scope: CheckScope) -> CheckedRecipe:
    """Refuse a recipe that would fail in a run, wherever the run takes place.

    Whether it fits the hardware and the limits is for the quote to say.

    Args:
        recipe: the recipe.
        scope: what can be checked from here.

    Raises:
        UserError: the first mistake, in one line.
    """
    check_addresses(recipe, on_this_machine=scope.serves_here)
    check_tunable(recipe.model, recipe.tune.method)
    if not scope.serves_here:
        check_rollout(recipe)
    local = LocalFiles()
    data = inspect_data(recipe.data, recipe.tune.objective, scope.readable, local)
    chat = resolved_chat(recipe)
    tasks = inspect_tasks(recipe, scope.readable, chat.tool_parser, local)
    model = serving = None
    long_rows = ""
    if scope.readable(recipe.model):
        listed = listed_files(recipe.model)
        check_exportable(recipe, listed)
        model = known_model(recipe.model, listed)
        check_context(recipe, model.architecture)
        serving = plan_serving(recipe, model, scope.serving) if scope.serving else None
        if data:
            train = [Path(file.path) for source in data.files.train for file in source.files]
            long_rows = check_lengths(recipe.data, train, model.uri, chat)
    if scope.serves_here and recipe.serve.enabled:
        # Loads psutil, which nothing else here needs.
        from steps.plan.port import check_port

        check_port(recipe)
    # Last: packing a task fetches its rows and tries it.
    lm_eval = [
        packed_file(f"evaluate.lm_eval.{number}", task) if not task.include or scope.readable(task.include) else None
        for number, task in enumerate(recipe.evaluate.lm_eval)
    ]
    return CheckedRecipe(recipe, tasks, lm_eval, model, data, serving, long_rows, local)


T = TypeVar("T")


def _in_scope(value: T | None) -> T:
    if value is None:
        raise RuntimeError("only a part of the recipe was checked, and this is out of its scope")
    return value
