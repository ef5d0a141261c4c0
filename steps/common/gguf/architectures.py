"""The architectures that can be written as GGUF, checked before anything is paid for. Imports no torch."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

# Types of rotary embeddings that llama.cpp computes as transformers does.
ROTARY = {"phi3": ("default", "longrope")}
ROTARY_OF_OTHERS = ("default", "linear", "llama3", "yarn")


def architecture(model_type: str) -> str:
    """Return llama.cpp's name for the architecture; empty if it cannot be written."""
    return str(_known().get(model_type, {}).get("architecture", ""))


def why_not_preset(name: str) -> str:
    """Return why a preset's model cannot be written as GGUF; empty if it can."""
    prefixes = [prefix for known in _known().values() for prefix in known["presets"]]
    return "" if any(name.startswith(prefix) for prefix in prefixes) else _unknown(f"of {name}")


def why_not_config(config: dict[str, Any]) -> str:
    """Return why a model with this config.json cannot be written as GGUF; empty if it can."""
    kind = config.get("model_type", "")
    if not architecture(kind):
        return _unknown(repr(kind))
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rotary.get("rope_type") or rotary.get("type") or "default"
    if rope_type not in ROTARY.get(kind, ROTARY_OF_OTHERS):
        return f"llama.cpp computes its rotary embeddings, of type {rope_type!r}, differently"
    # llama.cpp implements no sliding window for these architectures; for phi3 it ignores it, as in every GGUF of that model.
    window, used = config.get("sliding_window"), config.get("use_sliding_window", kind == "mistral")
    if window and used and window < config.get("max_position_embeddings", 0):
        return f"it uses a sliding window of {window} tokens, which llama.cpp does not support for this architecture"
    activation = config.get("hidden_act", "silu")
    return "" if activation == "silu" else f"its activation is {activation!r}, and llama.cpp supports only 'silu'"


def _unknown(what: str) -> str:
    return f"the architecture {what} is not supported; GGUF can be written for {', '.join(_known())}"


@cache
def _known() -> dict[str, dict[str, Any]]:
    text = resources.files("steps.common.gguf").joinpath("architectures.yaml").read_text()
    known: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return known
