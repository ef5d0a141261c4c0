"""The quote of a run in this cluster, as far as the API's pod can tell before there is a run."""

import sys

from api.check_process import CheckLimits, answer, checked_apart
from pipelines.workflows.parameters import as_text
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote
from steps.common.kubernetes.api_errors import ClusterError, UnansweredError
from steps.common.runtime.errors import UnreachableError

LONGEST_SECONDS = 600.0  # as long as OpenAI's client waits
MOST_MEMORY = 2 << 30  # bytes: as much as the plan's own pod
SHARE = 1 / 6  # of the free memory, since two checks run at once, and those of uploads take two thirds


def cluster_quote(recipe: Recipe) -> Quote | None:
    """Check a recipe in a process of its own, and return its quote.

    Returns:
        None if no node is bought for the run. It then costs nothing extra, and its speed depends on where it is placed.

    Raises:
        UserError: a run of it would fail, or the check needs too much memory.
        UnreachableError: a source did not answer.
    """
    from steps.common.machine.devices import memory_available

    memory = min(MOST_MEMORY, int(memory_available() * SHARE))
    text = checked_apart(__name__, as_text(recipe), CheckLimits(LONGEST_SECONDS, memory))
    return Quote.model_validate_json(text) if text else None


def _quote(text: str) -> str:
    """Return the quote of a recipe as JSON; empty if no node is bought."""
    from recipes.reader import load

    try:
        return _quote_of(load(text))
    except UnansweredError as error:
        raise UnreachableError("the server's cluster did not answer; try again in a few seconds") from error
    except ClusterError as error:  # what the cluster refuses is no caller's mistake
        raise RuntimeError(str(error)) from error


def _quote_of(recipe: Recipe) -> str:
    from steps.common.handover.installation import check_secrets, needs_api_key
    from steps.common.nodes import node_provider
    from steps.plan.check_recipe import CheckScope, check_recipe
    from steps.plan.model import pinned_model
    from steps.plan.quote.quote import quote

    check_secrets(recipe)
    if recipe.serve.enabled:
        needs_api_key(recipe)
    checked = check_recipe(recipe, CheckScope())
    provider = node_provider.node_provider()
    if not provider or not node_provider.buys(provider):
        return ""
    return quote(
        recipe, pinned_model(recipe.model, checked.model), checked.data.train, checked.held_out
    ).model_dump_json()


if __name__ == "__main__":
    sys.exit(answer(_quote))
