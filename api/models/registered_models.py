"""The tuned models in the registry: finds and withdraws them, on a machine and in a cluster alike."""

import functools
from collections.abc import Collection
from itertools import takewhile
from typing import Any

from api.models.served_addresses import ServedModel
from steps.common.registry import tracking, versions, withdrawn
from steps.common.registry.registry_errors import NotInRegistryError
from steps.common.storage import volumes

PAGE = 1000  # models that the registry lists at once
BASE, RUN = versions.BASE_URI, versions.RUN
WHY = "the model was deleted (to make a new version, use other data or another seed)"


def is_registered(name: str) -> bool:
    """Return whether the registry has a model of that name, no matter who made it.

    Raises:
        UnreachableError: it does not answer.
    """
    if _is_empty():
        return False
    try:
        _store().get_registered_model(name)
    except NotInRegistryError:
        return False
    return True


def registered(names: Collection[str]) -> dict[str, ServedModel]:
    """Return each model that has a version that was not withdrawn: the champion, or else the latest one.

    Raises:
        UnreachableError: the registry does not answer.
    """
    if not names or _is_empty():
        return {}
    found = {name: _shown(name) for name in _in_registry(names)}
    return {name: model for name, model in found.items() if model is not None}


def withdraw_all(name: str, by: str) -> None:
    """Withdraw every version of a model, and delete its aliases, so that the next version has no champion to beat.

    No retraining, no recovery, and no rollback that does not name it serves a withdrawn version again.

    Raises:
        UnreachableError: the registry does not answer.
    """
    if not is_registered(name):
        return
    store = _store()
    for version in _versions(name):
        withdrawn.withdraw(store, name, int(version.version), by, WHY)
    for alias in store.get_registered_model(name).aliases:
        store.delete_registered_model_alias(name, alias)


def _in_registry(names: Collection[str]) -> list[str]:
    """Return those names that the registry has; many jobs make no version, so most names of a team may have none."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    start, token, found = "".join(letter for letter, _ in same), None, set[str]()
    while True:
        page = _store().search_registered_models(f"name LIKE '{start}%'", PAGE, page_token=token)
        found |= {model.name for model in page}
        token = page.token
        if not token:
            return [name for name in names if name in found]


def _shown(name: str) -> ServedModel | None:
    kept = [version for version in _versions(name) if withdrawn.withdrawal(version) is None]
    if not kept:
        return None
    champion = versions.version_at(_store(), name, versions.CHAMPION)
    at = int(champion.version) if champion else 0
    shown = max(kept, key=lambda version: (int(version.version) == at, int(version.version)))
    return ServedModel(
        version=int(shown.version),
        created_at=int(shown.creation_timestamp / 1000),
        base=shown.tags.get(BASE, ""),
        run=shown.tags.get(RUN, ""),
    )


def _versions(name: str) -> list[Any]:
    return list(_store().search_model_versions(f"name = '{name}'"))


def _is_empty() -> bool:
    """Return whether the registry is this machine's and does not exist yet; to create it takes seconds."""
    own = f"sqlite:///{volumes.runs() / 'mlflow.db'}"
    return tracking.default_uri() == own and not (volumes.runs() / "mlflow.db").exists()


def _store() -> Any:
    return _client(tracking.default_uri())


@functools.cache
def _client(uri: str) -> Any:
    # For the whole process: a client with its own patience changes the environment in each call, while other threads run.
    tracking.set_patience(tracking.QUICK)
    return tracking.client(uri, None)
