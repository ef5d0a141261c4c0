"""The settings that a digest covers: those of 0.1.0 with their values, and later ones only where they differ from the defaults.

So neither a key that a later release adds, nor a default that it changes, makes a digest differ: nothing is trained again, and
digests that 0.1.0 has stored still hold. Whoever changes what a value or a default does raises the FORMAT of the steps that it
affects, so that they do not take an earlier result for their own.
"""

import json
from importlib import resources
from typing import Any

from recipes.recipe import Recipe

COVERED_BY_0_1_0 = "covered_by_0_1_0.json"  # its settings with its defaults; a list has the settings of one item
LATER = object()  # in place of the default of a key that 0.1.0 does not have
# What decides nothing about a version: where things are read from, and what happens to it afterwards.
PLACES: dict[str, Any] = {
    "data": {"train", "validation"},
    "registry": True,
    "evaluate": {"tasks": {"__all__": {"data"}}, "lm_eval": {"__all__": {"include"}}},
    "serve": True,
    "model": True,
    "chat": True,  # what it and the preset make of the prompt is covered by `made_from` and the digest of the rows
    "secrets": True,
    "compute": True,
    "export": True,
}


def covered_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a recipe that decide what a version is, as a digest covers them."""
    differing = recipe.model_dump(mode="json", exclude=PLACES, exclude_defaults=True)
    covered = json.loads((resources.files("steps.common.handover") / COVERED_BY_0_1_0).read_text())
    found: dict[str, Any] = _laid_over(covered, differing)
    return found


def _laid_over(defaults: Any, given: Any) -> Any:
    """Return what is given, with the defaults of keys that are not given; equal numbers are written alike."""
    if isinstance(given, dict):
        known = defaults if isinstance(defaults, dict) else {}
        parts = {key: _laid_over(known.get(key, LATER), value) for key, value in given.items()}
        # A later part that is given with its defaults is as one that is not given.
        return {**_whole(known), **{key: value for key, value in parts.items() if value != {}}}
    if isinstance(given, list):
        item = defaults[0] if isinstance(defaults, list) and defaults else LATER
        return [_laid_over(item, one) for one in given]
    if isinstance(given, float) and given.is_integer() and (defaults is LATER or isinstance(defaults, int)):
        return int(given)
    return float(given) if isinstance(defaults, float) else given


def _whole(defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults as values: a list of parts is empty."""
    return {
        key: _whole(value) if isinstance(value, dict) else [] if isinstance(value, list) else value
        for key, value in defaults.items()
    }
