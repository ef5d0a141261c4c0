"""Compiles the model's layers (`tune.compile`), each on its own, so that one compilation serves all of them.

What surrounds the layers keeps its varying shapes: the head sees only the labelled positions, whose number differs from
pack to pack. The layers see a pack's tokens, so every pack is padded to one length (`fixed_pack_length`); otherwise each
new length would be compiled anew.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from steps.common.model.packs import LENGTH_MULTIPLE, Packable
from steps.common.runtime.errors import UserError
from steps.tune.distributed.decoder_layers import decoder_layers


def check_compiler() -> None:
    """Check that there is a compiler: for a CPU torch generates C++, for a GPU Triton generates a launcher in C.

    Raises:
        UserError: there is none.
    """
    named = os.environ.get("CXX") or os.environ.get("CC")
    if not any(shutil.which(name) for name in [named, "g++", "clang++"] if name):
        raise UserError(
            "tune.compile: there is no C++ compiler here (this step's image has none); add g++ to the image, or set "
            "tune.compile=false"
        )


def compile_layers(model: Any, device: str) -> None:
    """Mark each decoder layer to be compiled at its first forward pass, in place.

    Args:
        model: the PEFT model.
        device: "cpu" or "cuda".
    """
    base = model.get_base_model()
    if device == "cpu":
        # Row-by-row attention loops over a pack's rows, and would be compiled anew for each number of rows.
        base.set_attn_implementation("sdpa")
    for _, layer in decoder_layers(base):
        layer.compile()


def fixed_pack_length(longest: int) -> Callable[[Sequence[Packable]], int]:
    """Return a function that returns the length to pad a pack to: the longest pack's length, rounded up to a multiple of 16.

    A part of a pack, computed on its own after memory ran out, is padded to a half of that, a quarter, and so on.

    Args:
        longest: the longest pack's length, in tokens.
    """

    def padded_length(pack: Sequence[Packable]) -> int:
        length, tokens = longest, _tokens(pack)
        while length // 2 >= tokens and length // 2 >= LENGTH_MULTIPLE:
            length //= 2
        return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    return padded_length


def _tokens(pack: Sequence[Packable]) -> int:
    return sum(len(row.input_ids) for row in pack)
