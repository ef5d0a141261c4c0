"""Packs from lengths alone: the same ones as a plain best-fit decreasing, which looks through all packs for each row."""

import random

import numpy
import pytest

from steps.common.model.packing import pack_lengths


def plainly_packed(lengths: list[int], ties: list[int], tokens: int) -> list[list[int]]:
    """Best-fit decreasing, in quadratic time."""
    packs: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], ties[row])):
        fitting = [number for number, left in enumerate(room) if left >= lengths[row]]
        if fitting:
            best = min(fitting, key=lambda number: room[number])
            packs[best].append(row)
            room[best] -= lengths[row]
        else:
            packs.append([row])
            room.append(tokens - lengths[row])
    return packs


@pytest.mark.parametrize("tokens", [1, 10, 32, 64])
@pytest.mark.parametrize("longest", [4, 30, 70])
def test_the_packs_are_those_of_a_search_through_all_of_them(tokens: int, longest: int) -> None:
    generator = random.Random(tokens * longest)
    for rows in (1, 2, 7, 40, 150):
        lengths = [generator.randint(1, longest) for _ in range(rows)]
        ties = generator.sample(range(rows), rows)
        found = pack_lengths(numpy.array(lengths), numpy.array(ties), tokens)
        assert [pack.tolist() for pack in found] == plainly_packed(lengths, ties, tokens)
        assert found.sums(numpy.array(lengths)).tolist() == [sum(lengths[row] for row in pack) for pack in found]


def test_the_packs_do_not_depend_on_the_order_of_the_rows() -> None:
    generator = numpy.random.default_rng(3)
    lengths, ties = generator.integers(1, 20, 200), generator.permutation(200)
    order = generator.permutation(200)
    found = [
        [[(lengths[row], ties[row]) for row in rows[pack]] for pack in pack_lengths(lengths[rows], ties[rows], 32)]
        for rows in (numpy.arange(200), order)
    ]
    assert found[0] == found[1]


def test_of_no_rows_there_are_no_packs() -> None:
    nothing = numpy.zeros(0, numpy.int64)
    assert list(pack_lengths(nothing, nothing, 8)) == []
    assert pack_lengths(nothing, nothing, 8).sums(nothing).tolist() == []
