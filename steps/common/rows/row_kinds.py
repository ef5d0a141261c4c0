"""What an objective learns from: rows, or pairs of a chosen and a rejected answer."""

from typing import Any

from steps.common.rows.row import Row, RowPlace
from steps.common.runtime.errors import UserError

PAIRS = "dpo"  # the objective that learns from pairs


def check_kind(place: RowPlace, row: Row, objective: str) -> None:
    """Check that a row is of the kind that `tune.objective` learns from.

    Raises:
        UserError: it is of the other kind. That is no row to skip: the recipe and the data do not go together.
    """
    if row.rejected and objective != PAIRS:
        raise UserError(f"{place}: has a chosen and a rejected answer; set tune.objective={PAIRS} to learn from pairs")
    if not row.rejected and objective == PAIRS:
        raise UserError(
            f"{place}: is no pair, and tune.objective is {PAIRS}; set tune.objective=sft, or give each row the columns "
            "prompt, chosen and rejected"
        )


def facts(objective: str) -> dict[str, Any]:
    """Return what the address of prepared rows has to tell of the objective: nothing where they are no pairs."""
    return {"objective": objective} if objective == PAIRS else {}
