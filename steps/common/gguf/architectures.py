"""The architectures that can be written as GGUF; asked before anything is paid for. Loads no torch."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

# Ways to stretch rotary embeddings that llama.cpp computes as transformers does.
ROTARY = {"phi3": ("default", "longrope")}
ROTARY_OF_OTHERS = ("default", "linear", "llama3", "yarn")


def architecture(model_type: str) -> str:
    """Return what llama.cpp calls the architecture; empty where it cannot be written."""
    return str(_known().get(model_type, {}).get("architecture", ""))


def why_not_preset(name: str) -> str:
    """Return why a preset's model cannot be written as GGUF; empty where it can."""
    prefixes = [prefix for known in _known().values() for prefix in known["presets"]]
    return "" if any(name.startswith(prefix) for prefix in prefixes) else _unknown(f"of {name}")


def why_not_config(config: dict[str, Any]) -> str:
    """Return why a model with this config.json cannot be written as GGUF; empty where it can."""
    kind = config.get("model_type", "")
    if not architecture(kind):
        return _unknown(repr(kind))
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    way = rotary.get("rope_type") or rotary.get("type") or "default"
    if way not in ROTARY.get(kind, ROTARY_OF_OTHERS):
        return f"its rotary embeddings are of type {way!r}, which llama.cpp computes otherwise"
    # llama.cpp knows no sliding window in these; phi3's it leaves out, as in every GGUF of that model.
    window, used = config.get("sliding_window"), config.get("use_sliding_window", kind == "mistral")
    if window and used and window < config.get("max_position_embeddings", 0):
        return f"it attends to a sliding window of {window} tokens, which llama.cpp knows not of this architecture"
    activation = config.get("hidden_act", "silu")
    return "" if activation == "silu" else f"its activation is {activation!r}, and llama.cpp takes 'silu'"


def _unknown(what: str) -> str:
    return f"the architecture {what} is none of those that are written as GGUF: {', '.join(_known())}"


@cache
def _known() -> dict[str, dict[str, Any]]:
    text = resources.files("steps.common.gguf").joinpath("architectures.yaml").read_text()
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found
