"""Generates a model's answers greedily, one at a time, as the server will."""

from typing import Any

from steps.common.rows.conversation import Conversation
from steps.common.runtime.progress import Progress


def answer_chats(model: Any, tokenizer: Any, chats: list[Conversation], answer_tokens: int, device: str) -> list[str]:
    """Answer each chat, and the same chat only once. Not in batches: with padding bf16 rounds differently and answers change.

    Args:
        model: in evaluation mode.
        tokenizer: its own.
        chats: each ends with a user's turn.
        answer_tokens: of the longest answer.
        device: "cpu" or "cuda".
    """
    import torch

    prompts = [prompt(tokenizer, chat) for chat in chats]
    answers = dict.fromkeys(prompts, "")
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
            tokens = generated[0, encoded["input_ids"].shape[1] :]
            answers[text] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            progress.update(number)
    return [answers[text] for text in prompts]


def prompt(tokenizer: Any, chat: Conversation) -> str:
    """Return the text that the model reads before it answers."""
    if not tokenizer.chat_template:
        return "\n".join(message.content for message in chat.messages) + "\n"
    return str(tokenizer.apply_chat_template(chat.for_template(), tokenize=False, add_generation_prompt=True))
