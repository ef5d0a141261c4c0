"""Answers as texts: with the marks of calls where a task wants them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steps.common.model.chat_template import ChatTemplate
from steps.common.rows.conversation import Conversation
from steps.evaluate.scores.answers import answer_chats


class _Fixed:
    """A model that gives one answer, and ends it as models do: with one of several tokens."""

    def __init__(self, tokens: list[int], ends: list[int]) -> None:
        self.tokens, self.generation_config = tokens, SimpleNamespace(eos_token_id=ends)
        self.asked = 0

    def generate(self, input_ids: Any, **_: Any) -> Any:
        import torch

        self.asked += 1
        return torch.cat([input_ids, torch.tensor([self.tokens])], dim=1)


@pytest.mark.parametrize(
    ("end", "kept"),
    [("<|im_end|>", "[TOOL_CALLS]hello"), ("<|endoftext|>", "[TOOL_CALLS]hello"), ("", "[TOOL_CALLS]hello")],
)
def test_special_tokens_are_kept_where_they_are_wanted_but_for_the_end(tiny_model: Path, end: str, kept: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["[TOOL_CALLS]"], special_tokens=True)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    model = _Fixed(tokenizer("[TOOL_CALLS]hello" + end, add_special_tokens=False)["input_ids"], ends)
    chats = [Conversation.of(("user", text)) for text in ("hello", "good day", "hello")]
    assert answer_chats(model, ChatTemplate(tokenizer, {}), chats, 8, "cpu", [2]) == ["hello", "hello", kept]
    assert model.asked == 2  # the same chat only once
