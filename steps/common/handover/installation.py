"""What the installation allows of a recipe in a cluster, whoever wrote it: Secrets, and an API key."""

import os

from recipes.recipe import Recipe
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError

SECRETS_SETTING = "FINELINE_SECRETS"  # prefixes of Secrets, separated by commas, that recipes may name
DEFAULT_PREFIX = "fineline"
API_KEY_DEFAULT_SETTING = "FINELINE_API_KEY_DEFAULT"  # required or none: for recipes whose serve.api_key is auto
REQUIRED, NONE, AUTO = "required", "none", "auto"


def allowed_prefixes() -> list[str]:
    """Return the prefixes of Secrets that recipes may name in a cluster, at least one."""
    return [prefix.strip() for prefix in (os.environ.get(SECRETS_SETTING) or DEFAULT_PREFIX).split(",")]


def check_secrets(recipe: Recipe) -> None:
    """Refuse, in a cluster, a recipe that names Secrets of others.

    Raises:
        UserError: the installation does not allow the prefix.
    """
    allowed = allowed_prefixes()
    if cluster_settings.in_cluster() and recipe.secrets not in allowed:
        raise UserError(
            f"secrets: this installation does not allow the prefix {recipe.secrets!r}; use {' or '.join(allowed)}, or have it "
            f"added to {SECRETS_SETTING} in the overlay of the installation"
        )


def api_key_secret(recipe: Recipe) -> str:
    """Return the name of the Secret with the API key of a recipe's model."""
    return f"{recipe.secrets}-api-key"


def needs_api_key(recipe: Recipe, *, had_one: bool = False) -> bool:
    """Return whether clients of the recipe's model must send an API key.

    `serve.api_key` decides. Where it is auto, a key that is set is required, and so is one that the served version has. In a
    cluster one is required otherwise too, unless the installation's default is none.

    Args:
        recipe: the resolved recipe.
        had_one: whether the version that serves now requires one.

    Raises:
        UserError: one is required, and none is set.
    """
    wanted = recipe.serve.api_key
    key = cluster_settings.api_key()
    closed = cluster_settings.in_cluster() and os.environ.get(API_KEY_DEFAULT_SETTING) != NONE
    if wanted == NONE or (wanted == AUTO and not (key or had_one or closed)):
        return False
    if not key:
        raise UserError(_missing(recipe, why="the version that serves has one" if had_one and wanted == AUTO else ""))
    return True


def _missing(recipe: Recipe, why: str) -> str:
    reason = f" ({why})" if why else ""
    if not cluster_settings.in_cluster():
        return (
            f"serve.api_key: {recipe.name} requires an API key{reason}, and {cluster_settings.API_KEY_SETTING} is not set; set "
            "it, or set serve.api_key=none"
        )
    space = cluster_settings.namespace() if cluster_settings.NAMESPACE_FILE.exists() else "NAMESPACE"
    create = f"kubectl create secret generic {api_key_secret(recipe)} -n {space} --from-literal=key=…"
    return (
        f"serve.api_key: {recipe.name} requires an API key{reason}, and the Secret {api_key_secret(recipe)} is missing or "
        f"empty; create it with '{create}', or set serve.api_key=none"
    )
