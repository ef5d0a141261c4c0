"""A model that computes nothing: it counts the tokens that it is asked to read and write."""

from typing import Any

from steps.common.lm_eval.model_socket import ModelQuestion

CHARACTERS_PER_TOKEN = 4  # English; the usual rule of thumb
DEFAULT_ANSWER_TOKENS = 256  # lm-eval's default, for a task that sets no maximum


class CountingModel:
    """Finds every option equally likely and answers with an empty text; has `read_tokens` and `written_tokens`."""

    def __init__(self) -> None:
        """Start at zero."""
        self.read_tokens = 0
        self.written_tokens = 0

    def answer(self, question: ModelQuestion) -> Any:
        """Return one answer for each request."""
        characters = sum(len(text) for texts in question.texts for text in texts)
        self.read_tokens += characters // CHARACTERS_PER_TOKEN + len(question.texts)
        if question.kind == "loglikelihood":
            return [(-1.0, False)] * len(question.texts)
        if question.kind == "loglikelihood_rolling":
            return [-1.0] * len(question.texts)
        limits = (one.get("max_gen_toks", DEFAULT_ANSWER_TOKENS) for one in question.settings)
        self.written_tokens += sum(int(limit) for limit in limits if isinstance(limit, int | float))
        return [""] * len(question.texts)
