"""How many tokens are computed at once. When the memory does not hold them, half as many; the step stays the same step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from presets.memory import GIB
from steps.common.model.packs import pack
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.tune.objective.loss import Pack

CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch's error names where the host has no memory left


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch could not allocate, on a GPU or on the host."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)


def fits(compute: Callable[[], object]) -> bool:
    """Compute, and return whether there was memory for it.

    Once this has returned nothing is held any more of what did not fit: the error goes with its frames.
    """
    try:
        compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


@dataclass
class Room:
    """The most tokens that are computed at once; a row that is longer is computed alone."""

    tokens: int
    predicted_bytes: int
    used_bytes: Callable[[], int]
    changed: Callable[[int], object]  # told the new number of tokens
    shortages: list[dict[str, int]] = field(default_factory=list)

    def parts(self, whole: Pack) -> list[Pack]:
        """Return the pack's rows in parts that there is room for."""
        return [whole] if _size(whole) <= self.tokens else pack(whole, self.tokens)

    def halve(self, part: Pack, step: int) -> None:
        """Note that a part did not fit, and allow half as many tokens from now on.

        Raises:
            UserError: the part is one row, which cannot be halved.
        """
        size, used = _size(part), self.used_bytes()
        compared = f"{self.predicted_bytes / GIB:.1f} GiB were predicted, {used / GIB:.1f} were taken when it ran out"
        if len(part) == 1:
            raise UserError(
                f"tune: out of memory with one row of {size} tokens ({compared}); lower data.max_tokens, or take what has "
                "more memory"
            )
        self.tokens = max(1, min(self.tokens, size) // 2)
        self.shortages.append({"step": step, "tokens": size, "used_bytes": used})
        say(
            f"out of memory with {size} tokens at once ({compared}): {self.tokens} from now on, in as many more passes; "
            "the step stays the same"
        )
        self.changed(self.tokens)


def _size(rows: Pack) -> int:
    return sum(len(row.input_ids) for row in rows)
