"""A model in lm-eval's sense that knows nothing and says nothing: it counts what it is asked."""

from typing import Any

CHARACTERS_A_TOKEN = 4  # English; the usual rule of thumb
LONGEST_ANSWER = 256  # tokens, where a task does not say: lm-eval's own default


def nobody() -> Any:
    """Return it, with `read_tokens` and `written_tokens`; a function, since its class is lm-eval's."""
    from lm_eval.api.model import LM

    class Nobody(LM):  # type: ignore[misc]
        """Finds every option alike, and answers with nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.read_tokens = 0
            self.written_tokens = 0

        def _read(self, requests: list[Any], texts: int) -> None:
            letters = sum(len(text) for request in requests for text in request.args[:texts])
            self.read_tokens += letters // CHARACTERS_A_TOKEN + len(requests)

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            self._read(requests, 2)
            return [(-1.0, False)] * len(requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            self._read(requests, 1)
            return [-1.0] * len(requests)

        def generate_until(self, requests: list[Any]) -> list[str]:
            self._read(requests, 1)
            self.written_tokens += sum(request.args[1].get("max_gen_toks", LONGEST_ANSWER) for request in requests)
            return [""] * len(requests)

    return Nobody()
