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


def split_thoughts(text: str) -> tuple[str, str]:
    """Return the thoughts that stand in marks before an answer, and the answer.

    The first mark may be missing, since some models' prompts end with it. Marks anywhere else are part of the answer.
    """
    for opening, closing in MARKS:
        if closing not in text:
            continue
        before, _, answer = text.partition(closing)
        thoughts = before.lstrip().removeprefix(opening)
        opened = before.lstrip().startswith(opening)
        if opening not in thoughts and (opened or (opening not in answer and closing not in answer)):
            return thoughts.strip(), answer.lstrip("\r\n")
    return "", text


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends inside a thought, as that of DeepSeek-R1's distillations does."""
    return prompt.rstrip().endswith(tuple(opening for opening, _ in MARKS))


def closes_thought(prompt: str) -> bool:
    """Return whether a prompt ends with a thought that is over, as Qwen3's does with `enable_thinking: false`."""
    return prompt.rstrip().endswith(tuple(closing for _, closing in MARKS))
