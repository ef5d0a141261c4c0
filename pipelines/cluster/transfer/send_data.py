"""Sends a recipe's local data to where the steps can read it: the object store that is set, else the runs volume."""

from collections.abc import Iterable
from pathlib import Path

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.config_map import setting
from pipelines.cluster.transfer.upload import upload
from pipelines.workflows.step_pods.containers import RUNS_MOUNT
from recipes.data import Data, RowSource, listed
from recipes.recipe import Recipe
from steps.common.handover.resolved import DataFile
from steps.common.runtime.cluster_settings import VLLM_IMAGE_SETTING
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.plan.check_recipe import CheckScope, check_recipe
from steps.plan.data.s3_file import put
from steps.plan.plan_size import refuse_many_files
from steps.plan.serving_plan import ServingSettings

STORE_SETTING = "FINELINE_DATA_URL"  # s3://BUCKET/PREFIX


def check_scope(connection: ClusterConnection) -> CheckScope:
    """Return what this machine can check of a recipe that the cluster runs.

    A model's URI and a remote file may be reachable for the cluster only, which may have GPU presets of its own as well.
    """
    image = setting(connection, VLLM_IMAGE_SETTING)
    serving = ServingSettings(in_cluster=True, vllm_image=image, instance_type="", instance_types_known=False)
    # Without the right to read the ConfigMap, a setting looks empty.
    return CheckScope(readable=is_local, serving=serving if image else None)


def with_data_in_reach(connection: ClusterConnection, recipe: Recipe) -> Recipe:
    """Check the recipe, upload its local files under their digests, and return it with the files' new places.

    Args:
        connection: the cluster.
        recipe: a recipe whose data may be files of this machine.

    Raises:
        UserError: a run of the recipe would fail, or a file could not be sent.
    """
    checked = check_recipe(recipe, check_scope(connection))
    tasks, evaluate = recipe.evaluate.tasks, recipe.evaluate
    # Tasks of lm-eval are packed here, since the cluster's plan step has no lm-eval.
    lm_eval = [
        task.model_copy(update={"include": file.path}) if file else task
        for task, file in zip(evaluate.lm_eval, checked.lm_eval, strict=True)
    ]
    data = recipe.data
    known = checked.local
    local = {place: known.at(place) for places in recipe.places.values() for place in places if is_local(place)}
    local |= {task.include: [Path(task.include)] for task in lm_eval if is_local(task.include)}
    store = setting(connection, STORE_SETTING).rstrip("/") if local else ""
    if store and not store.startswith("s3://"):
        raise UserError(f"the setting {STORE_SETTING} is {store!r}; write it as s3://BUCKET/PREFIX")
    names = _names(file for files in local.values() for file in files)
    refuse_many_files(
        recipe,
        (
            DataFile(
                path=f"{RUNS_MOUNT}/data/{'0' * 16}/{names[file]}",
                sha256="0" * 64,
                bytes=file.stat().st_size,
                source=f"{store}/{'0' * 16}/{names[file]}" if store else "",
            )
            for files in local.values()
            for file in files
        ),
    )

    def send(file: Path, name: str) -> str:
        sha256 = known.sha256(file)
        return put(file, f"{store}/{sha256[:16]}/{name}") if store else upload(connection, file, name, sha256)

    sent = {file: send(file, name) for file, name in names.items()}
    at = {place: [sent[file] for file in files] for place, files in local.items()}
    changed = {"train": _train_at(data, at), "validation": _at(data.validation, at)}
    tasks = [task.model_copy(update={"data": _at(task.data, at)}) for task in tasks]
    lm_eval = [task.model_copy(update={"include": _at(task.include, at)}) for task in lm_eval]
    evaluate = evaluate.model_copy(update={"tasks": tasks, "lm_eval": lm_eval})
    return recipe.model_copy(update={"data": data.model_copy(update=changed), "evaluate": evaluate})


def _names(files: Iterable[Path]) -> dict[Path, str]:
    """Return the names under which files are sent, so that two with the same name and content stay two.

    None has the name of a file that the API has uploaded, since the API deletes those.
    """
    names: dict[Path, str] = {}
    taken: set[tuple[str, int]] = set()
    for file in files:
        if file not in names:
            # The size stands for the content: a name that need not differ may differ all the same.
            name, size = file.name, file.stat().st_size
            number = 2
            while (name, size) in taken or name.startswith(f"{volumes.UPLOADED}."):
                name, number = f"{number}-{file.name}", number + 1
            taken.add((name, size))
            names[file] = name
    return names


def _at(places: str | list[str], sent: dict[str, list[str]]) -> str | list[str]:
    """Return the places where the files of others lie now: one as a text, several as a list."""
    if not sent.keys() & set(listed(places)):
        return places
    found = [there for place in listed(places) for there in sent.get(place, [place])]
    return found[0] if len(found) == 1 else found


def _train_at(data: Data, sent: dict[str, list[str]]) -> str | list[str | RowSource]:
    """Return the recipe's `data.train` with the files' new places, each source with its part in the mixture."""
    if isinstance(data.train, str):
        found = _at(data.train, sent)
        return found if isinstance(found, str) else [*found]
    return [_item_at(one, sent) for one in data.train]


def _item_at(item: str | RowSource, sent: dict[str, list[str]]) -> str | RowSource:
    if isinstance(item, RowSource):
        return item.model_copy(update={"source": _at(item.source, sent)})
    found = _at(item, sent)
    return found if isinstance(found, str) else RowSource(source=found)


def is_local(file: str) -> bool:
    """Tell whether a recipe's file is on this machine: neither a URL nor on the cluster's volume."""
    return bool(file) and "://" not in file and not Path(file).is_relative_to(RUNS_MOUNT)
