"""Whether the model that a run makes can be written as the recipe wants it; asked before anything is paid for."""

from presets.model_preset import UnknownPresetError, find
from recipes.recipe import Recipe
from steps.common.gguf.architectures import why_not_config, why_not_preset
from steps.common.runtime.errors import UserError
from steps.plan.model import published_config


def check_exportable(recipe: Recipe) -> None:
    """Refuse a GGUF file of a model that llama.cpp would compute otherwise, or not at all.

    Raises:
        UserError: with the reason, and what to do.
    """
    if recipe.export.gguf == "none":
        return
    reason = _why_not(recipe.model)
    if reason:
        raise UserError(
            f"export.gguf: {reason}; leave it out, take export.merged=true and convert that with llama.cpp's own tools"
        )


def _why_not(reference: str) -> str:
    if "://" in reference:
        return why_not_config(published_config(reference))
    try:
        preset, _ = find(reference)
    except UnknownPresetError as error:
        raise UserError(f"model: {error}") from None
    return why_not_preset(preset.name)
