"""Checks that the tuned model can be exported in the recipe's format, before the run costs anything."""

from presets.model_preset import UnknownPresetError, find
from recipes.recipe import Recipe
from steps.common.gguf.architectures import why_not_config, why_not_preset
from steps.common.runtime.errors import UserError
from steps.plan.model import published_files


def check_exportable(recipe: Recipe) -> None:
    """Refuse a GGUF export of a model that llama.cpp cannot run, or would run incorrectly.

    Raises:
        UserError: with the reason and the remedy.
    """
    if recipe.export.gguf == "none":
        return
    reason = _why_not(recipe.model)
    if reason:
        raise UserError(
            f"export.gguf: {reason}; set export.merged=true instead, and convert the result with llama.cpp's own tools"
        )


def _why_not(reference: str) -> str:
    if "://" in reference:
        config, names = published_files(reference)
        without_vocabulary = (
            "" if "tokenizer.json" in names else "the model has no tokenizer.json to make a vocabulary from"
        )
        return why_not_config(config) or without_vocabulary
    try:
        preset, _ = find(reference)
    except UnknownPresetError as error:
        raise UserError(f"model: {error}") from None
    return why_not_preset(preset.name)
