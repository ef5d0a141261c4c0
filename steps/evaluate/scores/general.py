"""The guard of general ability: short questions that any assistant should be able to answer, with three options each.

`general.jsonl` is ours, dedicated to the public domain (CC0 1.0): common knowledge, arithmetic, language, following
instructions. A model chooses the option that it would most likely say, so that no answer has to be written or understood:
the same weights choose the same, and a model of 135M parameters does it in seconds.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from steps.common.model.packs import IGNORE_INDEX, TokenRow
from steps.evaluate.scores.answers import prompt
from steps.evaluate.scores.row_losses import RowLosses

FILE = "general.jsonl"
CHANCE = 1 / 3  # of the right option for a model that knows nothing
SYSTEM = "Answer briefly."
# Rows of some thirty tokens: where attention is not computed row by row it is reckoned over the whole pack, also where a row
# may not look, and in long packs most of it is thrown away.
PACK_TOKENS = 512


@dataclass(frozen=True)
class Item:
    """A question with its options."""

    kind: str
    ask: str
    options: list[str]
    right: int  # place of the right option


@cache
def items() -> list[Item]:
    """Return the questions, in the file's order."""
    text = (resources.files("steps.evaluate.scores") / FILE).read_text(encoding="utf-8")
    return [Item(**json.loads(line)) for line in text.splitlines()]


def option_rows(tokenizer: Any) -> list[TokenRow]:
    """Return one row an option, item by item: the question under the chat template is read, the option is scored."""
    rows = []
    for item in items():
        text = _asked(tokenizer, item)
        asked = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
        for option in item.options:
            said = tokenizer(option, add_special_tokens=False)["input_ids"]
            rows.append(TokenRow(asked + said, [IGNORE_INDEX] * len(asked) + said, []))
    return rows


def _asked(tokenizer: Any, item: Item) -> str:
    """Return the question as the model reads it: with a short system message, in the place of a template's long own one."""
    turns = [("system", SYSTEM), ("user", item.ask)]
    try:
        return prompt(tokenizer, turns if tokenizer.chat_template else turns[1:])
    except Exception:  # what a template that knows no system message raises, as Gemma's does
        return prompt(tokenizer, turns[1:])


def right(losses: RowLosses) -> list[bool]:
    """Tell of each item whether its right option is the likeliest: the sum of the log-probabilities of its tokens."""
    nats = iter(losses.nats)
    found = []
    for item in items():
        of_item = [next(nats) for _ in item.options]
        found.append(min(range(len(of_item)), key=of_item.__getitem__) == item.right)
    return found
