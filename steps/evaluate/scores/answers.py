"""Generates a model's answers greedily, one at a time, as the server will."""

from collections.abc import Collection
from typing import Any

from steps.common.runtime.progress import Progress

Turns = list[tuple[str, str]]  # role and text; the last turn is the user's


def answer_chats(
    model: Any,
    tokenizer: Any,
    chats: list[Turns],
    answer_tokens: int,
    device: str,
    with_special_tokens: Collection[int] = (),
) -> list[str]:
    """Answer each chat, and the same chat only once. Not in batches: with padding bf16 rounds differently and answers change.

    Args:
        model: in evaluation mode.
        tokenizer: its own.
        chats: each ends with a user's turn.
        answer_tokens: of the longest answer.
        device: "cpu" or "cuda".
        with_special_tokens: places of the chats whose answers keep their special tokens, except those that end an answer.
    """
    import torch

    prompts = [prompt(tokenizer, turns) for turns in chats]
    answers: dict[str, list[int]] = {text: [] for text in prompts}
    progress = Progress(len(answers), "answers")
    with torch.inference_mode():
        for number, text in enumerate(answers, 1):
            encoded = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template).to(device)
            generated = model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=answer_tokens,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            )
            answers[text] = generated[0, encoded["input_ids"].shape[1] :].tolist()
            progress.update(number)
    ends = _ends(model, tokenizer)
    return [
        tokenizer.decode(_without_end(answers[text], ends)).strip()
        if place in with_special_tokens
        else tokenizer.decode(answers[text], skip_special_tokens=True).strip()
        for place, text in enumerate(prompts)
    ]


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Return the tokens at which the model's answers end."""
    of_model = getattr(model.generation_config, "eos_token_id", None)
    found = {tokenizer.eos_token_id, tokenizer.pad_token_id, *(of_model if isinstance(of_model, list) else [of_model])}
    return {token for token in found if token is not None}


def _without_end(tokens: list[int], ends: set[int]) -> list[int]:
    end = len(tokens)
    while end and tokens[end - 1] in ends:
        end -= 1
    return tokens[:end]


def prompt(tokenizer: Any, turns: Turns) -> str:
    """Return the text that the model reads before it answers."""
    if not tokenizer.chat_template:
        return "\n".join(text for _, text in turns) + "\n"
    messages = [{"role": role, "content": text} for role, text in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
