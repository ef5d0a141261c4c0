"""The tuned models in the registry: what there is of them, and taking them back. The same on a machine and in a cluster."""

import functools
from collections.abc import Collection
from typing import Any

from api.models.served_addresses import ServedModel
from steps.common.registry import tracking, versions, withdrawn
from steps.common.registry.registry_errors import NotInRegistryError
from steps.common.storage import volumes

BASE, RUN = versions.BASE_URI, versions.RUN
WHY = "the model was deleted (other data, or another seed, make a new version of it)"


def is_registered(name: str) -> bool:
    """Return whether the registry has a model of that name, whoever made it.

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
    """Return those of the models that have a version that was not withdrawn: the champion, else the latest one.

    Raises:
        UnreachableError: the registry does not answer.
    """
    if not names or _is_empty():
        return {}
    found = {name: _shown(name) for name in names}
    return {name: model for name, model in found.items() if model is not None}


def withdraw_all(name: str, by: str) -> None:
    """Withdraw every version of a model, and take its aliases away: what has none is no champion that the next one must beat.

    A version that is withdrawn is not served again by a retraining, a recovery or a rollback that does not name it.

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
    """Return whether the registry is that of this machine, and nothing was registered yet: making it takes seconds."""
    own = f"sqlite:///{volumes.runs() / 'mlflow.db'}"
    return tracking.default_uri() == own and not (volumes.runs() / "mlflow.db").exists()


def _store() -> Any:
    return _client(tracking.default_uri())


@functools.cache
def _client(uri: str) -> Any:
    # For the whole process: a client with a patience of its own changes the environment with each call, beside other threads.
    tracking.set_patience(tracking.QUICK)
    return tracking.client(uri, None)
