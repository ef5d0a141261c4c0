"""Keys in a recipe's addresses: a recipe is kept with its run, its version and its Workflow, and a key must not be."""

import re
from collections.abc import Iterator
from typing import Any

from recipes.recipe import Recipe
from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import has_credentials, without_credentials

# Where the key belongs, by the recipe's key; for all others, where a file can be read with a key that is kept elsewhere.
REMEDIES = {
    "registry.tracking_uri": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (in a cluster, the Secret NAME-mlflow)",
    "model": "use hf:// with HF_TOKEN, or s3:// (in a cluster, the Secrets NAME-hub and NAME-object-store)",
}
OTHERWISE = (
    "use s3:// or hf://, whose keys come from settings (in a cluster, the Secrets NAME-object-store and NAME-hub)"
)


def check_addresses(recipe: Recipe, *, on_this_machine: bool) -> None:
    """Refuse an address with a user, a password or a signature in it, without quoting it.

    Args:
        recipe: the recipe.
        on_this_machine: the run takes place here: data files are copied before anything is kept, so their addresses may
            have a key.

    Raises:
        UserError: an address has a key.
    """
    for key, text in _texts(recipe.model_dump(mode="json")):
        if has_credentials(text) and not (on_this_machine and _is_copied(key)):
            raise UserError(f"{key}: the address has a key in it, and a recipe is kept; {REMEDIES.get(key, OTHERWISE)}")


def kept(recipe: Recipe) -> Recipe:
    """Return the recipe as it is kept: with no key in any address."""
    clean = _without(recipe.model_dump(mode="json", exclude_defaults=True))
    return Recipe.model_validate(clean)


def _is_copied(key: str) -> bool:
    return re.match(r"data\.|evaluate\.tasks\.\d+\.data\b", key) is not None


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(one, f"{key}.{name}".lstrip("."))


def _without(value: Any) -> Any:
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items()}
    return [_without(one) for one in value] if isinstance(value, list) else value
