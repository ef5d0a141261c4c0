"""transformers' handlers of OpenAI's three paths, for one model that is loaded once.

They differ from those of `transformers serve` in these points (transformers 5.23):

- What a client does wrong is an HTTPException with status 400, not a ValueError or KeyError that becomes a 500.
- A stream that fails before its first token is an error with a status, as any other answer, not a 200 with an error in it.
- An answer names the model as it was asked for, not as `name@main`.
- Nothing is generated beyond the model's context: with one thread for all requests, the others would wait for it.
"""

import inspect
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from jinja2 import TemplateError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.utils import Modality, _StreamError

from steps.common.model.stop_tokens import stop_tokens
from steps.rollout.server.answer_errors import FAILED, GenerationError, error_body
from steps.rollout.server.request_body import (
    BodyError,
    ChatBody,
    ResponsesBody,
    Sampling,
    TextBody,
    check_parts,
    checked,
)

# Before generation begins, only the request differs from those that are answered.
READING_ERRORS = (TemplateError, ValueError, TypeError, LookupError, AttributeError)

_log = logging.getLogger("uvicorn.error")


class TokenQueue:
    """The queue of a stream's pieces, whose first piece can be waited for before the answer begins."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._first: list[Any] = []

    async def begin(self) -> None:
        """Wait for the first piece.

        Raises:
            GenerationError: generation failed.
        """
        self._first = [_raised(await self._queue.get())]

    async def get(self) -> Any:
        """Return the next piece, when there is one."""
        return self._first.pop() if self._first else _raised(await self._queue.get())

    def get_nowait(self) -> Any:
        """Return the next piece, or raise asyncio.QueueEmpty."""
        return self._first.pop() if self._first else _raised(self._queue.get_nowait())


class StreamStart:
    """Stands in for a manager of generations, and keeps the queue of the stream that it starts."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self.queue = TokenQueue(None)

    def generate_streaming(self, *given: Any, **named: Any) -> tuple[TokenQueue, Any]:
        """Start a stream."""
        queue, streamer = self._manager.generate_streaming(*given, **named)
        self.queue = TokenQueue(queue)
        return self.queue, streamer


class OneModel:
    """What the three handlers share; comes before transformers' handler among a class's bases."""

    body: type[Sampling]

    def __init__(self, end_of_turn: str, **shared: Any) -> None:
        super().__init__(**shared)
        self._end_of_turn = end_of_turn

    async def answer(self, body: Any, request_id: str) -> Response:
        """Answer a request.

        Raises:
            HTTPException: the request is at fault.
            GenerationError: the server failed.
        """
        try:
            answer = await self.handle_request(checked(self.body, body), request_id)  # type: ignore[attr-defined]
            # `_streaming` waits for the first piece.
            found = await answer if inspect.isawaitable(answer) else answer
        except READING_ERRORS as error:
            if not isinstance(error, (BodyError, TemplateError)):
                _log.warning("refused a request that transformers cannot read", exc_info=error)
            raise HTTPException(400, _reason(error)) from error
        assert isinstance(found, Response)
        return found

    def _resolve_model(self, body: dict[str, Any]) -> tuple[str, Any, Any]:
        _, model, processor = super()._resolve_model(body)  # type: ignore[misc]
        name = self.model_manager.force_model  # type: ignore[attr-defined]
        tokenizer = getattr(processor, "tokenizer", processor)
        config = model.generation_config
        config.eos_token_id = stop_tokens(tokenizer, config.eos_token_id, self._end_of_turn) or None
        modality = self.model_manager.get_model_modality(model, processor=processor)  # type: ignore[attr-defined]
        listed = body.get("messages") or body.get("input")
        check_parts(_turns(listed), modality is not Modality.LLM)
        return name, model, processor

    async def _streaming(self, *given: Any, **named: Any) -> Response:
        started = super()._streaming  # type: ignore[misc]
        call = _fitting(started, given, named)
        call.arguments["gen_manager"] = start = StreamStart(call.arguments["gen_manager"])
        answer = started(*call.args, **call.kwargs)
        await start.queue.begin()
        answer.body_iterator = _events(answer.body_iterator)
        assert isinstance(answer, Response)
        return answer

    async def _non_streaming(self, *given: Any, **named: Any) -> Any:
        generated = super()._non_streaming  # type: ignore[misc]
        call = _fitting(generated, given, named)
        try:
            return await generated(*call.args, **call.kwargs)
        except Exception as error:
            raise GenerationError(str(error)) from error


class Chats(OneModel, ChatCompletionHandler):  # type: ignore[misc]
    """Answers `/v1/chat/completions`."""

    body = ChatBody


class Texts(OneModel, CompletionHandler):  # type: ignore[misc]
    """Answers `/v1/completions`."""

    body = TextBody


class Responses(OneModel, ResponseHandler):  # type: ignore[misc]
    """Answers `/v1/responses`."""

    body = ResponsesBody


def _fitting(method: Any, given: tuple[Any, ...], named: dict[str, Any]) -> inspect.BoundArguments:
    """Return the arguments of a call that generates, with no more tokens than the model's context has room for."""
    call = inspect.signature(method).bind(*given, **named)
    model, config = call.arguments["model"], call.arguments["gen_config"]
    text = model.config.get_text_config()
    if unknown := [token for (token,) in config.sequence_bias or {} if not 0 <= token < text.vocab_size]:
        raise BodyError(f"logit_bias: the model has no token {unknown[0]}; it has {text.vocab_size}")
    length, context = call.arguments["inputs"]["input_ids"].shape[-1], getattr(text, "max_position_embeddings", None)
    if not length:
        raise BodyError("the request has no text")
    if context:
        if length >= context:
            raise BodyError(f"the request has {length} tokens; the model's context has {context}, the answer included")
        config.max_new_tokens = min(config.max_new_tokens, context - length)
    return call


def _turns(listed: Any) -> list[dict[str, Any]]:
    """Return the messages of a chat or a response. A response's input can be the parts of one message."""
    if not isinstance(listed, list):
        return []
    return listed if "role" in listed[0] else [{"content": listed}]


def _raised(piece: Any) -> Any:
    if isinstance(piece, _StreamError):
        raise GenerationError(piece.msg)
    return piece


async def _events(pieces: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Pass a stream's events on; if generation fails, end with an error as OpenAI streams it."""
    try:
        async for piece in pieces:
            yield piece
    except GenerationError as error:
        _log.error("failed in the middle of a stream: %s", error)
        yield f"data: {json.dumps({'type': 'error', 'message': FAILED, **error_body(500, FAILED)})}\n\n"


def _reason(error: Exception) -> str:
    if isinstance(error, BodyError):
        return str(error)
    if isinstance(error, TemplateError):
        return f"the model's chat template refuses the request: {error}"
    return f"the request cannot be read: {type(error).__name__}: {error}"
