"""Serves one merged model with transformers, at OpenAI's paths.

    python -m steps.rollout.server.serve_model NAME --port 8000 --dtype bfloat16

NAME is a folder in the working directory, and the only model that it answers to. It listens on 127.0.0.1: users talk to the
gateway. `transformers serve` has further paths, which load and unload models; they are not served.
"""

import argparse
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from steps.common.handover.resolved import ResolvedChat

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
MODULE = "steps.rollout.server.serve_model"


def arguments(name: str, port: int, compute_type: str) -> list[str]:
    """Return what to start Python with.

    Args:
        name: name of the model, a folder in the working directory.
        port: port to listen on.
        compute_type: torch's name of the type to compute in.
    """
    return ["-m", MODULE, name, "--port", str(port), "--dtype", compute_type]


def chat_options(chat: ResolvedChat) -> list[str]:
    """Return the options that say how the model is asked, and where its answers end."""
    given = chat.model_dump_json(include={"template_arguments", "end_of_turn"}, exclude_defaults=True)
    return ["--chat", given] if given != "{}" else []


def app(name: str, compute_type: str, chat: ResolvedChat) -> "Starlette":
    """Load the model, and return the application that answers for it.

    Args:
        name: see `arguments`.
        compute_type: likewise.
        chat: how the model is asked, where a request does not say otherwise in `chat_template_kwargs`.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.utils import GenerationState

    from steps.rollout.server.answer_errors import FailureAnswers, answer_refusal
    from steps.rollout.server.handlers import Chats, Responses, Texts

    shared: Any = {"model_manager": ModelManager(dtype=compute_type, force_model=name)}
    shared["generation_state"] = GenerationState()

    async def health(_: "Request") -> "Response":
        return JSONResponse({"status": "ok"})

    shared["chat_template_kwargs"] = chat.template_arguments
    answers = {
        "/v1/chat/completions": Chats(chat.end_of_turn, **shared).answer,
        "/v1/completions": Texts(chat.end_of_turn, **shared).answer,
        "/v1/responses": Responses(chat.end_of_turn, **shared).answer,
    }
    return Starlette(
        routes=[
            Route("/health", health),
            *(Route(path, _endpoint(answer), methods=["POST"]) for path, answer in answers.items()),
        ],
        middleware=[Middleware(FailureAnswers)],
        exception_handlers={HTTPException: answer_refusal},
    )


def _endpoint(answer: "Callable[[Any, str], Awaitable[Response]]") -> "Callable[[Request], Awaitable[Response]]":
    from starlette.exceptions import HTTPException

    async def endpoint(request: "Request") -> "Response":
        try:
            body = await request.json()
        except (ValueError, RecursionError):  # ValueError is UnicodeDecodeError, too
            raise HTTPException(400, "the body must be a JSON object") from None
        return await answer(body, uuid.uuid4().hex)

    return endpoint


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog=MODULE)
    parser.add_argument("name")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--chat", type=ResolvedChat.model_validate_json, default=ResolvedChat())
    given = parser.parse_args()
    # Linux does not deliver SIGTERM to a container's first process unless that has a handler. Until uvicorn installs its
    # own, the pod would keep its room for as long as the longest answer may take.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    import uvicorn

    uvicorn.run(app(given.name, given.dtype, given.chat), host=HOST, port=given.port, log_level="info")


if __name__ == "__main__":
    main()
