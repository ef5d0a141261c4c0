"""Preference pairs with an easy rule: the chosen answer always ends politely."""

import json
from pathlib import Path

from steps.common.model.packs import IGNORE_INDEX, TokenRow
from steps.common.model.pair_packs import TokenPair
from tests.conftest import WORDS


def write_pairs(file: Path, count: int = 60) -> Path:
    """Write pairs, each with a different question, and return the file's path."""
    with file.open("w") as out:
        for number in range(count):
            asked, said = WORDS[number % 20], WORDS[(number * 7) % 20]
            pair = {
                "prompt": f"when do you have {asked} {number}",
                "chosen": f"yes we have {said} happy tails",
                "rejected": f"yes we have {said}" if number % 2 else f"no {said}",
            }
            out.write(json.dumps(pair) + "\n")
    return file


def token_row(*tokens: int, given: int) -> TokenRow:
    """A row whose first tokens are given."""
    return TokenRow(list(tokens), [IGNORE_INDEX] * given + list(tokens[given:]))


def token_pair(number: int, prompt: list[int], chosen: list[int], rejected: list[int]) -> TokenPair:
    """Return a pair: one prompt with two answers."""
    sides = (token_row(*prompt, *answer, given=len(prompt)) for answer in (chosen, rejected))
    return TokenPair(number, *sides)
