"""The general questions, which guard against lost ability: short, with three options each, easy for any assistant.

`general.jsonl` is ours and dedicated to the public domain (CC0 1.0): common knowledge, arithmetic, language, following
instructions. A model's choice is the option that it finds most likely, so no answer has to be generated or parsed: the same
weights always choose the same options, and a model of 135M parameters takes seconds.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from steps.common.model.chat_template import ChatTemplate, RefusedByTemplateError
from steps.common.model.packs import IGNORE_INDEX, TokenRow
from steps.common.rows.conversation import Conversation
from steps.evaluate.scores.row_losses import RowLosses

FILE = "general.jsonl"
CHANCE = 1 / 3  # that a guess is right
SYSTEM = "Answer briefly."
# The rows have about thirty tokens. Where attention is computed over the whole pack and masked between rows, most of the work
# in a long pack is thrown away.
PACK_TOKENS = 512


@dataclass(frozen=True)
class GeneralQuestion:
    """A question with its options."""

    kind: str
    ask: str
    options: list[str]
    right: int  # index of the right option


@cache
def general_questions() -> list[GeneralQuestion]:
    """Return the questions, in the file's order."""
    text = (resources.files("steps.evaluate.scores") / FILE).read_text(encoding="utf-8")
    return [GeneralQuestion(**json.loads(line)) for line in text.splitlines()]


def option_rows(template: ChatTemplate) -> list[TokenRow]:
    """Return one row per option, question by question: only the option's tokens are labelled, so only they are scored."""
    rows, tokenizer = [], template.tokenizer
    for question in general_questions():
        text = _prompt(template, question)
        read = tokenizer(text, add_special_tokens=not template.exists)["input_ids"]
        for option in question.options:
            scored = tokenizer(option, add_special_tokens=False)["input_ids"]
            rows.append(TokenRow(read + scored, [IGNORE_INDEX] * len(read) + scored))
    return rows


def _prompt(template: ChatTemplate, question: GeneralQuestion) -> str:
    """Return the prompt, with a short system message that replaces the template's long default."""
    asked = Conversation.of(("user", question.ask))
    try:
        instructed = Conversation.of(("system", SYSTEM), ("user", question.ask))
        return template.prompt(instructed if template.exists else asked)
    except RefusedByTemplateError:  # such as Gemma's, which takes no system message
        return template.prompt(asked)


def right_options(losses: RowLosses) -> list[bool]:
    """Return for each question whether its right option is the most likely one, by the summed log-probability."""
    nats = iter(losses.nats)
    right = []
    for question in general_questions():
        of_options = [next(nats) for _ in question.options]
        right.append(min(range(len(of_options)), key=of_options.__getitem__) == question.right)
    return right
