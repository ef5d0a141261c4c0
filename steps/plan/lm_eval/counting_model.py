"""A model in lm-eval's sense that computes nothing: it counts the tokens that it is asked to read and write."""

from typing import Any

CHARACTERS_PER_TOKEN = 4  # English; the usual rule of thumb
DEFAULT_ANSWER_TOKENS = 256  # lm-eval's default, for a task that sets no maximum


def counting_model() -> Any:
    """Return one; a function, because its base class can only be imported where lm-eval is installed."""
    from lm_eval.api.model import LM

    class CountingModel(LM):  # type: ignore[misc]
        """Finds every option equally likely and answers with an empty text; has `read_tokens` and `written_tokens`."""

        def __init__(self) -> None:
            super().__init__()
            self.read_tokens = 0
            self.written_tokens = 0

        def _read(self, requests: list[Any], texts: int) -> None:
            characters = sum(len(text) for request in requests for text in request.args[:texts])
            self.read_tokens += characters // CHARACTERS_PER_TOKEN + len(requests)

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            self._read(requests, 2)
            return [(-1.0, False)] * len(requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            self._read(requests, 1)
            return [-1.0] * len(requests)

        def generate_until(self, requests: list[Any]) -> list[str]:
            self._read(requests, 1)
            answer_tokens = (request.args[1].get("max_gen_toks", DEFAULT_ANSWER_TOKENS) for request in requests)
            self.written_tokens += sum(answer_tokens)
            return [""] * len(requests)

    return CountingModel()
