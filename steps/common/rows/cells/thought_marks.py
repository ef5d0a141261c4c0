"""The marks around a model's thoughts, and the answer behind them."""

from steps.common.rows.cells.columns import FormError

MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))  # opening and closing


def behind_thought(text: str, *, opened: bool = False) -> str:
    """Return the answer behind a thought; empty if the thought does not end, so that there is no answer.

    Args:
        text: what a model has generated.
        opened: the prompt has opened the thought, so that the text begins inside it.
    """
    for opening, closing in MARKS:
        before, closed, after = text.partition(closing)
        begun = opened or before.lstrip().startswith(opening)
        if closed and opening not in before.replace(opening, "", 1) and (begun or _is_end(after)):
            return after.strip()
        if text.lstrip().startswith(opening):
            return ""
    return "" if opened else text.strip()


def split_thoughts(text: str, where: str) -> tuple[str, str]:
    """Return the thoughts that stand in marks before an answer, and the answer.

    The first mark may be missing, since some models' prompts end with it. Marks anywhere else are part of the answer.

    Raises:
        FormError: the text begins with a thought that does not end; `where` says in the error whose it is.
    """
    for opening, closing in MARKS:
        before, closed, answer = text.partition(closing)
        thoughts = before.lstrip().removeprefix(opening)
        opened = before.lstrip().startswith(opening)
        if opened and not closed:
            raise FormError(f"{where} has a thought that does not end: {opening} without {closing}")
        unopened = opening not in answer and closing not in answer and _is_end(answer)
        if closed and opening not in thoughts and (opened or unopened):
            return thoughts.strip(), answer.lstrip("\r\n")
    return "", text


def _is_end(after: str) -> bool:
    """Return whether what follows a closing mark shows that it ends a thought, where no opening mark does.

    Models write a line break there. Within a line, the mark is spoken of.
    """
    return after.startswith(("\n", "\r"))


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends inside a thought, as that of DeepSeek-R1's distillations does."""
    return prompt.rstrip().endswith(tuple(opening for opening, _ in MARKS))


def closes_thought(prompt: str) -> bool:
    """Return whether a prompt ends with a thought that is over, as Qwen3's does with `enable_thinking: false`."""
    return prompt.rstrip().endswith(tuple(closing for _, closing in MARKS))
