"""Answers: asked with the arguments that are served, ended where a server ends them, and without the thought before them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steps.common.model.chat_template import ChatTemplate
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError
from steps.evaluate.scores.answers import answer_chats

CATS, DOGS = (Conversation.of(("user", word)) for word in ("cats", "dogs"))


class Says:
    """A model that always says the same, and keeps what it was given."""

    generation_config = SimpleNamespace(eos_token_id=1)

    def __init__(self, tokenizer: Any, text: str) -> None:
        self._tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        self.given: dict[str, Any] = {}

    def generate(self, **given: Any) -> Any:
        import torch

        self.given = given
        return torch.cat([given["input_ids"], self._tokens[:, : given["max_new_tokens"]]], 1)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def test_an_answer_is_what_follows_the_thought(tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = Says(tokenizer, "<think>\nwe have\n</think>\n\nyes<|im_end|>")
    assert answer_chats(model, ChatTemplate(tokenizer), [CATS, DOGS, CATS], 100, "cpu") == ["yes"] * 3
    assert "warning" not in capsys.readouterr().err
    assert answer_chats(model, ChatTemplate(tokenizer), [CATS, DOGS, CATS], 12, "cpu") == [""] * 3
    assert "2 of 2 answers are thoughts that do not end within evaluate.answer_tokens (12)" in capsys.readouterr().err


def test_a_prompt_has_the_arguments_and_an_answer_ends_where_a_servers_does(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{{ messages[0].content }} {{ mood }}{% if mood == 'no' %}{{ raise_exception('sad') }}{% endif %}"
    )
    model = Says(tokenizer, "yes")
    answer_chats(model, ChatTemplate(tokenizer, {"mood": "happy"}), [CATS], 9, "cpu", "<|endoftext|>")
    assert tokenizer.decode(model.given["input_ids"][0]) == "cats happy"
    assert model.given["eos_token_id"] == [0, 1, 2]
    with pytest.raises(
        UserError, match="the model's chat template refuses 'cats': sad; change or remove that question"
    ):
        answer_chats(model, ChatTemplate(tokenizer, {"mood": "no"}), [CATS], 9, "cpu")
