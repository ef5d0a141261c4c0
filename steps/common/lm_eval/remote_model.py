"""A model in lm-eval's sense that asks another process over a socket."""

import socket
from typing import Any

from steps.common.lm_eval.model_socket import ModelQuestion, receive, send


def remote_model(connection: socket.socket) -> Any:
    """Return one; a function, because its base class can only be imported where lm-eval is installed."""
    from lm_eval.api.model import LM

    class RemoteModel(LM):  # type: ignore[misc]
        """Passes requests on."""

        tokenizer_name = "remote"

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            texts = [(first, second) for first, second in (request.args for request in requests)]
            answers = _ask(ModelQuestion(kind="loglikelihood", texts=texts))
            return [(float(value), bool(greedy)) for value, greedy in answers]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            texts = [(request.args[0], "") for request in requests]
            return [float(value) for value in _ask(ModelQuestion(kind="loglikelihood_rolling", texts=texts))]

        def generate_until(self, requests: list[Any]) -> list[str]:
            texts = [(request.args[0], "") for request in requests]
            settings = [dict(request.args[1]) for request in requests]
            return [str(text) for text in _ask(ModelQuestion(kind="generate_until", texts=texts, settings=settings))]

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            question = ModelQuestion(
                kind="chat_template", chat=chat_history, add_generation_prompt=add_generation_prompt
            )
            return str(_ask(question))

    def _ask(question: ModelQuestion) -> Any:
        send(connection, {"question": question.model_dump()})
        return receive(connection)["answer"]

    return RemoteModel()
