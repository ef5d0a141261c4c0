"""The kind of rows that an objective needs: plain rows, or pairs of a chosen and a rejected answer."""

from typing import Any

from steps.common.rows.row import Row, RowPlace
from steps.common.runtime.errors import UserError

PAIRS = "dpo"  # the objective that trains on pairs


def check_kind(place: RowPlace, row: Row, objective: str) -> None:
    """Check that a row is of the kind that `tune.objective` needs.

    Raises:
        UserError: the row is of the other kind. It cannot be skipped, since the recipe does not match the data.
    """
    if row.rejected and objective != PAIRS:
        raise UserError(f"{place}: has a chosen and a rejected answer; set tune.objective={PAIRS} to train on pairs")
    if not row.rejected and objective == PAIRS:
        raise UserError(
            f"{place}: is not a pair, and tune.objective is {PAIRS}; set tune.objective=sft, or give each row the columns "
            "prompt, chosen and rejected"
        )


def objective_key(objective: str) -> dict[str, Any]:
    """Return the objective's part of the digest of prepared rows: nothing for plain rows."""
    return {"objective": objective} if objective == PAIRS else {}
