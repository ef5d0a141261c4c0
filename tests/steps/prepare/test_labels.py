"""Labels: the assistant's text and the token that ends its turn, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from steps.common.model.packs import IGNORE_INDEX
from steps.common.rows.conversation import Conversation
from steps.common.rows.row import Row
from steps.prepare.labels import Example, LabelError, example


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def learnt(found: Example, tokenizer: Any) -> str:
    return str(tokenizer.decode([label for label in found.labels if label != IGNORE_INDEX]))


def test_only_the_assistants_turns_are_learnt(tokenizer: Any) -> None:
    row = Row(
        Conversation.of(
            ("system", "be kind"),
            ("user", "cats?"),
            ("assistant", "yes cats"),
            ("user", "dogs?"),
            ("assistant", "no"),
        )
    )
    found = example(row, tokenizer, 512)
    assert learnt(found, tokenizer) == "yes cats<|im_end|>no<|im_end|>"
    assert tokenizer.decode(found.input_ids).startswith("<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user")


def test_a_turn_that_the_template_rewrites_later_is_read_but_not_learnt(tokenizer: Any) -> None:
    from copy import deepcopy

    forgetful = deepcopy(tokenizer)
    forgetful.chat_template = tokenizer.chat_template.replace(
        "{{ message['content'] }}", "{{ message['content'] if loop.last or message['role'] == 'user' else 'gone' }}"
    )
    row = Row(Conversation.of(("user", "cats?"), ("assistant", "yes"), ("user", "dogs?"), ("assistant", "no")))
    assert learnt(example(row, forgetful, 512), tokenizer) == "no<|im_end|>"


def test_plain_text_is_learnt_whole_and_ends(tokenizer: Any) -> None:
    assert learnt(example(Row(text="we have food"), tokenizer, 512), tokenizer) == "we have food<|im_end|>"


def test_a_row_that_is_too_long_is_refused_not_cut(tokenizer: Any) -> None:
    with pytest.raises(LabelError, match="tokens long, over"):
        example(Row(text="we have food " * 100), tokenizer, 64)


def test_a_template_that_refuses_a_row_says_why(tokenizer: Any) -> None:
    from copy import deepcopy

    strict = deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('no system messages here') }}"
    with pytest.raises(LabelError, match="no system messages here"):
        example(Row(Conversation.of(("user", "a"), ("assistant", "b"))), strict, 64)
