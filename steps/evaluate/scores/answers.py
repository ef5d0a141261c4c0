"""Generates a model's answers greedily, one at a time, as the server will."""

from collections.abc import Collection
from typing import Any

from steps.common.model.chat_template import ChatTemplate, RefusedByTemplateError
from steps.common.model.stop_tokens import stop_tokens
from steps.common.rows.cells.thought_marks import behind_thought, opens_thought
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say


def answer_chats(
    model: Any,
    template: ChatTemplate,
    chats: list[Conversation],
    answer_tokens: int,
    device: str,
    end_of_turn: str = "",
    with_special_tokens: Collection[int] = (),
) -> list[str]:
    """Answer each chat, and the same chat only once. Not in batches: with padding bf16 rounds differently and answers change.

    Of a model that thinks first, the answer behind its thought is returned; an empty one if the thought does not end within
    `answer_tokens`.

    Args:
        model: in evaluation mode.
        template: of its own tokenizer, with the arguments with which it is served.
        chats: each ends with a user's turn.
        answer_tokens: of the longest answer.
        device: "cpu" or "cuda".
        end_of_turn: token that ends an answer according to the model's preset.
        with_special_tokens: places of the chats whose answers keep their special tokens, except those that end an answer.

    Raises:
        UserError: the chat template refuses a chat.
    """
    import torch

    tokenizer = template.tokenizer
    prompts = [_prompt(template, chat) for chat in chats]
    stops = stop_tokens(tokenizer, model.generation_config.eos_token_id, end_of_turn)
    answers: dict[str, list[int]] = {text: [] for text in prompts}
    progress = Progress(len(answers), "answers")
    with torch.inference_mode():
        for number, text in enumerate(answers, 1):
            encoded = tokenizer(text, return_tensors="pt", add_special_tokens=not template.exists).to(device)
            generated = model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=answer_tokens,
                do_sample=False,
                eos_token_id=stops or None,
                pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            )
            answers[text] = generated[0, encoded["input_ids"].shape[1] :].tolist()
            progress.update(number)
    ends = {*stops, tokenizer.pad_token_id}
    said = [
        tokenizer.decode(_without_end(answers[text], ends)).strip()
        if place in with_special_tokens
        else tokenizer.decode(answers[text], skip_special_tokens=True).strip()
        for place, text in enumerate(prompts)
    ]
    found = [behind_thought(one, opened=opens_thought(text)) for one, text in zip(said, prompts, strict=True)]
    unfinished = {
        text
        for text, one, behind in zip(prompts, said, found, strict=True)
        if one and not behind and len(answers[text]) == answer_tokens
    }
    if unfinished:
        say(
            f"warning: {len(unfinished)} of {len(answers)} answers are thoughts that do not end within "
            f"evaluate.answer_tokens ({answer_tokens}), which is no answer; raise it"
        )
    return found


def _without_end(tokens: list[int], ends: set[int]) -> list[int]:
    end = len(tokens)
    while end and tokens[end - 1] in ends:
        end -= 1
    return tokens[:end]


def _prompt(template: ChatTemplate, chat: Conversation) -> str:
    try:
        return template.prompt(chat)
    except RefusedByTemplateError as error:
        raise UserError(
            f"evaluate: the model's chat template refuses {chat.answer.content!r:.80}: {error}; change or remove that question "
            "or row"
        ) from None
