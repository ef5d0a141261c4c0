"""A model's answers, greedy and one after the other, as the server will give them."""

from typing import Any

from steps.common.runtime.progress import Progress

Turns = list[tuple[str, str]]  # role and text, the last one a user's


def answers(model: Any, tokenizer: Any, asked: list[Turns], longest: int, device: str) -> list[str]:
    """Answer each chat, the same chat once only: in a padded batch bf16 rounds to other words.

    Args:
        model: in evaluation mode.
        tokenizer: its own.
        asked: chats that end with a user's turn.
        longest: tokens of an answer.
        device: "cpu" or "cuda".
    """
    import torch

    prompts = [prompt(tokenizer, turns) for turns in asked]
    given = dict.fromkeys(prompts, "")
    progress = Progress(len(given), "answers")
    with torch.inference_mode():
        for number, text in enumerate(given, 1):
            read = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template).to(device)
            written = model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                max_new_tokens=longest,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            )
            tokens = written[0, read["input_ids"].shape[1] :]
            given[text] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            progress.update(number)
    return [given[text] for text in prompts]


def prompt(tokenizer: Any, turns: Turns) -> str:
    """Return what the model reads before it answers."""
    if not tokenizer.chat_template:
        return "\n".join(text for _, text in turns) + "\n"
    messages = [{"role": role, "content": text} for role, text in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
