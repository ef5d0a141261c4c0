"""The steps of a training: every row once per epoch, and no row is read before its step."""

from pathlib import Path

import pytest

from recipes.tuning import Tune
from steps.common.model.packs import RowPacks, TokenRow, packed_numbers
from steps.common.model.prepared_rows import PreparedTexts, table_of, write_rows
from steps.tune.loop.held_out import select_rows
from steps.tune.loop.step_schedule import ScheduledSteps, schedule_steps

LENGTHS = (5, 3, 8, 2, 7, 4, 6, 1, 3)


@pytest.fixture
def rows(tmp_path: Path) -> PreparedTexts:
    found = [TokenRow([10 * number + at for at in range(n)], [7] * n) for number, n in enumerate(LENGTHS, 1)]
    write_rows(tmp_path / "train", [table_of(found)])
    return PreparedTexts.open(tmp_path / "train")


def test_each_row_is_in_one_step_of_an_epoch(rows: PreparedTexts) -> None:
    packs = packed_numbers(rows, 10)
    steps = ScheduledSteps(RowPacks(rows, packs), schedule_steps(len(packs), 2, 2.0, seed=3))
    per_epoch = -(-len(packs) // 2)
    assert len(steps) == 2 * per_epoch
    epochs = [
        [row.input_ids for step in range(first, first + per_epoch) for pack in steps[step] for row in pack]
        for first in (0, per_epoch)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row.input_ids for row in rows)
    assert epochs[0] != epochs[1]
    with pytest.raises(IndexError):
        steps[len(steps)]


def test_rows_are_read_when_their_step_is_due(rows: PreparedTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def noted(_: PreparedTexts, number: int, sides: list[TokenRow]) -> TokenRow:
        read.append(number)
        return sides[0]

    monkeypatch.setattr(PreparedTexts, "_read", noted)
    packs = packed_numbers(rows, 10)
    steps = ScheduledSteps(RowPacks(rows, packs), schedule_steps(len(packs), 1, 1.0, seed=3))
    assert read == []
    (first,) = steps[0]
    assert len(read) == len(first) < len(rows)


def test_held_out_rows_are_chosen_evenly_by_their_lengths(rows: PreparedTexts) -> None:
    few = select_rows(rows, Tune(evaluations=1), train_tokens=10)
    assert 0 < len(few) < len(rows)
    assert few[0] == rows[0]
    assert len(select_rows(rows, Tune(evaluations=1), train_tokens=10_000)) == len(rows)
