"""Checks that the tuned model can be exported in the recipe's format, before the run costs anything."""

from recipes.recipe import Recipe
from steps.common.gguf.architectures import why_not_config, why_not_preset
from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import Listing
from steps.plan.model import preset_of, read_config


def check_exportable(recipe: Recipe, files: Listing | None) -> None:
    """Refuse a GGUF export of a model that llama.cpp cannot run, or would run incorrectly.

    Args:
        recipe: the recipe.
        files: of its model; None for a preset's.

    Raises:
        UserError: with the reason and the remedy.
    """
    if recipe.export.gguf == "none":
        return
    reason = _why_not(files) if files else why_not_preset(preset_of(recipe.model)[0].name)
    if reason:
        raise UserError(
            f"export.gguf: {reason}; set export.merged=true instead, and convert the result with llama.cpp's own tools"
        )


def _why_not(files: Listing) -> str:
    if reason := why_not_config(read_config(files) or {}):
        return reason
    names = {file.name for file in files.files}
    return "" if "tokenizer.json" in names else "the model has no tokenizer.json to make a vocabulary from"
