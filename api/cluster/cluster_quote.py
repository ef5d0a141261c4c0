"""What a run in this cluster would take, as far as the API's pod can tell before there is a run."""

from recipes.recipe import Recipe
from steps.common.handover.installation import check_secrets, needs_api_key
from steps.common.handover.resolved import Quote
from steps.common.nodes import node_provider
from steps.plan.check_recipe import CheckScope, check_recipe
from steps.plan.model import pinned_model
from steps.plan.quote.quote import quote


def cluster_quote(recipe: Recipe) -> Quote | None:
    """Check a recipe, and return what a run of it would take.

    The tasks of lm-eval are left to the run's plan: they are foreign code, which is tried there.

    Returns:
        None if no node is bought for the run: then it costs nothing more, and how fast it is depends on where it is placed.

    Raises:
        UserError: a run of it would fail.
        UnreachableError: a source did not answer.
    """
    check_secrets(recipe)
    if recipe.serve.enabled:
        needs_api_key(recipe)
    own = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"lm_eval": []})})
    checked = check_recipe(own, CheckScope())
    provider = node_provider.node_provider()
    if not provider or not node_provider.buys(provider):
        return None
    return quote(own, pinned_model(own.model, checked.model), checked.data.train, checked.held_out)
