"""The marks around a model's thoughts, and the answer behind them."""

MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))  # opening and closing


def behind_thought(text: str, *, opened: bool = False) -> str:
    """Return the answer behind a thought; empty if the thought does not end, so that there is no answer.

    Args:
        text: what a model has generated.
        opened: the prompt has opened the thought, so that the text begins inside it.
    """
    for opening, closing in MARKS:
        before, closed, after = text.partition(closing)
        if closed and opening not in before.replace(opening, "", 1):
            return after.strip()
        if text.lstrip().startswith(opening):
            return ""
    return "" if opened else text.strip()


def split_thought(text: str) -> tuple[str, str]:
    """Return the thought that a text begins with, without its marks, and what follows it."""
    for opening, closing in MARKS:
        inside, closed, after = text.lstrip().removeprefix(opening).partition(closing)
        if closed and text.lstrip().startswith(opening):
            return inside.strip(), after.strip()
    return "", text


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends inside a thought, as that of DeepSeek-R1's distillations does."""
    return prompt.rstrip().endswith(tuple(opening for opening, _ in MARKS))


def closes_thought(prompt: str) -> bool:
    """Return whether a prompt ends with a thought that is over, as Qwen3's does with `enable_thinking: false`."""
    return prompt.rstrip().endswith(tuple(closing for _, closing in MARKS))
