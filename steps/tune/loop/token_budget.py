"""How many tokens a forward pass may have. It is halved when memory runs out; the optimizer step stays the same."""

from collections.abc import Callable
from dataclasses import dataclass, field

from presets.memory import GIB
from steps.common.model.packs import pack
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.tune.objective.objective import Pack

CPU_ALLOCATOR = "DefaultCPUAllocator"  # named in torch's error when the host is out of memory


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch failed to allocate memory, on a GPU or on the host."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)


def fits_in_memory(compute: Callable[[], object]) -> bool:
    """Run `compute`, and return whether there was enough memory for it.

    When this returns False, nothing of the failed computation is held any more: the error is gone, and its frames with it.
    """
    try:
        compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


@dataclass
class TokenBudget:
    """The most tokens that one forward pass computes; a single row that is longer is computed alone."""

    tokens: int
    predicted_bytes: int
    peak_bytes: Callable[[], int]
    on_change: Callable[[int], object]  # called with the new number of tokens
    shortages: list[dict[str, int]] = field(default_factory=list)  # for the report: step, tokens and used_bytes of each

    def split(self, whole: Pack) -> list[Pack]:
        """Return a pack's rows in parts that are within the budget."""
        return [whole] if _tokens(whole) <= self.tokens else list(pack(whole, self.tokens))

    def halve(self, part: Pack, step: int) -> None:
        """Record that a part did not fit in memory, and halve the budget.

        Raises:
            UserError: the part is a single row, which cannot be split.
        """
        size, used = _tokens(part), self.peak_bytes()
        compared = f"predicted {self.predicted_bytes / GIB:.1f} GiB, {used / GIB:.1f} GiB in use"
        if len(part) == 1:
            raise UserError(
                f"tune: out of memory with one row of {size} tokens ({compared}); lower data.max_tokens, or use a machine "
                "with more memory"
            )
        self.tokens = max(1, min(self.tokens, size) // 2)
        self.shortages.append({"step": step, "tokens": size, "used_bytes": used})
        say(
            f"out of memory with {size} tokens in one pass ({compared}): computing at most {self.tokens} per pass from now "
            "on, in more passes; the optimizer step stays the same"
        )
        self.on_change(self.tokens)


def _tokens(rows: Pack) -> int:
    return sum(len(row.input_ids) for row in rows)
