"""Compiles the model's layers (`tune.compile`): each alone, so that one compilation serves them all.

What stands around the layers keeps its changing shapes: the head sees the labelled positions alone, of which each pack has
another number. The layers see a pack's tokens, so every pack is filled up to one length (`fixed_length`), or each new
length would be compiled anew.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from steps.common.model.layers import decoder_layers
from steps.common.model.packs import LENGTH_MULTIPLE, Packable
from steps.common.runtime.errors import UserError


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
    base = model.get_base_model()
    if device == "cpu":
        # Attention row by row is a loop over as many rows as a pack has, compiled anew for each number of them.
        base.set_attn_implementation("sdpa")
    for _, layer in decoder_layers(base):
        layer.compile()


def fixed_length(packs: Sequence[Sequence[Packable]]) -> Callable[[Sequence[Packable]], int]:
    """Return what tells the length that a pack is filled up to: the longest pack's, a multiple of 16.

    A part of a pack, computed alone where memory ran out, is filled up to half of that, a quarter, and so on.
    """
    longest = max(_tokens(pack) for pack in packs)

    def length_of(pack: Sequence[Packable]) -> int:
        length, tokens = longest, _tokens(pack)
        while length // 2 >= tokens and length // 2 >= LENGTH_MULTIPLE:
            length //= 2
        return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    return length_of


def _tokens(pack: Sequence[Packable]) -> int:
    return sum(len(row.input_ids) for row in pack)
