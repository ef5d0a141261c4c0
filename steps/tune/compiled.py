"""Compiles the model's layers (`tune.compile`): each alone, so that one compilation serves them all.

What stands around the layers keeps its changing shapes: the head sees the labelled positions alone, of which each pack has
another number. The layers see a pack's tokens, so every pack is filled up to one length (`full_length`), or each new
length would be compiled anew.
"""

import os
import shutil
from typing import Any

from steps.common.errors import UserError
from steps.common.packs import LENGTH_MULTIPLE, TokenRow


def check_compiler() -> None:
    """Refuse where there is no compiler: torch writes C++ for a CPU, and Triton a launcher in C for a GPU.

    Raises:
        UserError: with what to install.
    """
    named = os.environ.get("CXX") or os.environ.get("CC")
    if not any(shutil.which(name) for name in [named, "g++", "clang++"] if name):
        raise UserError(
            "tune.compile: there is no C++ compiler here (the image of this step has none); add g++ to the image, or "
            "leave tune.compile off"
        )


def compile_layers(model: Any, device: str) -> None:
    """Have each layer compiled at its first forward pass, in place.

    Args:
        model: with its adapter.
        device: "cpu" or "cuda".
    """
    from torch import nn

    base = model.get_base_model()
    if device == "cpu":
        # Attention row by row is a loop over as many rows as a pack has, compiled anew for each number of them.
        base.set_attn_implementation("sdpa")
    count = base.config.get_text_config().num_hidden_layers
    stacks = [one for one in base.base_model.modules() if isinstance(one, nn.ModuleList) and len(one) == count]
    for layer in stacks[0] if stacks else []:
        layer.compile()


def full_length(packs: list[list[TokenRow]]) -> int:
    """Return the length that every pack is filled up to: the longest pack's, a multiple of 16."""
    longest = max(sum(len(row.input_ids) for row in pack) for pack in packs)
    return -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
