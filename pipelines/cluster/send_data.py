"""Puts a recipe's local data where the steps can read them: into the object store that is set, else onto the runs volume."""

from pathlib import Path
from typing import Any

from pipelines.cluster.argo_server import Cluster
from pipelines.cluster.config_map import setting
from pipelines.cluster.upload import upload
from pipelines.workflows.containers import RUNS_MOUNT
from recipes.evaluation import LmEvalTask
from recipes.recipe import Recipe
from steps.common.runtime.errors import UserError
from steps.common.storage.files import sha256_of
from steps.plan.data.data_file import look
from steps.plan.data.s3_file import put
from steps.plan.data.task_files import look_at_tasks
from steps.plan.lm_eval.recipe_tasks import packed_file

STORE_SETTING = "FINELINE_DATA_URL"  # s3://BUCKET/PREFIX


def with_data_in_reach(connection: Cluster, recipe: Recipe, template: dict[str, Any]) -> Recipe:
    """Send the recipe's local files, each under its digest, and return it with their places there.

    Args:
        connection: the cluster.
        recipe: whose data may be files of this machine.
        template: the installed WorkflowTemplate.

    Raises:
        UserError: a row cannot be used, or a file could not be sent.
    """
    asked, of_harness = recipe.evaluate.tasks, _packed(recipe)
    files = {"train": recipe.data.train, "validation": recipe.data.validation}
    files |= {f"tasks.{i}": task.file for i, task in enumerate(asked)}
    files |= {f"lm_eval.{i}": task.include for i, task in enumerate(of_harness)}
    local = {key: Path(file) for key, file in files.items() if is_local(file)}
    if len(local) == len([file for file in files.values() if file]):
        # A row that cannot be used is told here, and not after the nodes are there.
        look(recipe.data, recipe.tune.objective)
        look_at_tasks(recipe)
    store = setting(connection, STORE_SETTING).rstrip("/") if local else ""
    if store and not store.startswith("s3://"):
        raise UserError(f"the setting {STORE_SETTING} is {store!r}; write it as s3://BUCKET/PREFIX")
    placed = {
        key: put(file, f"{store}/{sha256_of(file)[:16]}/{file.name}") if store else upload(connection, file, template)
        for key, file in local.items()
    }
    tasks = [task.model_copy(update={"data": placed.pop(f"tasks.{i}", task.data)}) for i, task in enumerate(asked)]
    packed = [
        task.model_copy(update={"include": placed.pop(f"lm_eval.{i}", task.include)})
        for i, task in enumerate(of_harness)
    ]
    evaluate = recipe.evaluate.model_copy(update={"tasks": tasks, "lm_eval": packed})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=placed), "evaluate": evaluate})


def _packed(recipe: Recipe) -> list[LmEvalTask]:
    """Return the tasks of lm-eval, packed on this machine unless they are: where a cluster plans there is no lm-eval."""
    found = []
    for number, task in enumerate(recipe.evaluate.lm_eval):
        here = is_local(task.include) or not task.include
        file = packed_file(f"evaluate.lm_eval.{number}", task).path if here else task.include
        found.append(task.model_copy(update={"include": file}))
    return found


def is_local(file: str) -> bool:
    """Tell whether a recipe's file is one of this machine: neither a URL nor on the cluster's volume."""
    return bool(file) and "://" not in file and not Path(file).is_relative_to(RUNS_MOUNT)
