"""The bodies that the model server accepts, checked before transformers sees them.

transformers reads a request's fields as they come: a value that it cannot use ends in an exception, here or in the middle of
generation. So each value has the type and the range that generation accepts, and is brought into the form that it expects.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Json = dict[str, Any]

# Fields of transformers' own that replace what this server is started with: its template, and the limits below.
REFUSED = ("generation_config",)
REFUSED_FOR_TEMPLATE = ("chat_template", "tokenize", "return_tensors", "return_dict", "tools", "add_generation_prompt")
# Below this, sampling is as good as greedy, and the division by it can overflow. vLLM has the same bound.
LEAST_TEMPERATURE = 0.01


class BodyError(ValueError):
    """A body that cannot be answered; the text is one line for the client."""


def _content(value: Any) -> Any:
    if isinstance(value, list):
        for part in value:
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise ValueError("each part must be an object with a field 'type'")
            if part["type"].endswith("text") and not isinstance(part.get("text"), str):
                raise ValueError(f"a part of type {part['type']!r} must have a text")
    elif value is not None and not isinstance(value, str):
        raise ValueError("must be a text or a list of parts")
    return value


def _texts(value: Any) -> Any:
    """Return the stop strings as a list."""
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise ValueError("must be a text, or a list of texts, that are not empty")
    return found


Tokens = Annotated[int | None, Field(ge=1, le=2**31)]


class RequestMessage(BaseModel):
    """One turn of a chat. Which roles and which order of roles there are is up to the model's template."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1)
    content: Annotated[Any, BeforeValidator(_content)] = None


class Sampling(BaseModel):
    """What all three kinds of request have in common."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    # transformers multiplies by one plus the penalty, which has to be positive.
    frequency_penalty: float | None = Field(default=None, gt=-1, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[str], BeforeValidator(_texts)] = []
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stream: bool | None = None
    tools: list[Json] | None = None
    chat_template_kwargs: Json | None = None


class ChatBody(Sampling):
    """Body of `/v1/chat/completions`."""

    messages: list[RequestMessage] = Field(min_length=1)
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None


class TextBody(Sampling):
    """Body of `/v1/completions`."""

    prompt: str = Field(min_length=1)
    max_tokens: Tokens = None
    suffix: str | None = None


class ResponsesBody(Sampling):
    """Body of `/v1/responses`."""

    input: str | list[Json] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: Tokens = None


def checked(kind: type[Sampling], body: Any) -> Json:
    """Return a body as transformers can use it: what is not set is left out, numbers are numbers.

    Raises:
        BodyError: it has a value that cannot be used.
    """
    try:
        read = kind.model_validate(body)
    except ValidationError as error:
        raise BodyError(_first(error)) from None
    for field in REFUSED:
        if field in body:
            raise BodyError(f"{field}: this field is not accepted; use OpenAI's fields")
    for field in read.chat_template_kwargs or {}:
        if field in REFUSED_FOR_TEMPLATE:
            raise BodyError(f"chat_template_kwargs: {field!r} is not accepted")
    if read.temperature is not None and read.temperature < LEAST_TEMPERATURE:
        read.temperature = 0.0
    # Without the field, transformers streams a response; OpenAI does not.
    read.stream = bool(read.stream)
    return {key: value for key, value in read.model_dump(exclude_none=True).items() if value not in ([], {})}


def check_parts(messages: list[Json], takes_images: bool) -> None:
    """Check messages and their parts against what the model takes.

    Raises:
        BodyError: a role is no text, a part is of another type, or names something that this server would have to fetch.
    """
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role", ""), str):
            raise BodyError("messages: each must be an object whose role is a text")
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "input_text", "output_text"):
                continue
            if not takes_images or kind not in ("image_url", "input_image"):
                raise BodyError(f"messages: this model does not take parts of type {kind!r}")
            given = part.get("image_url")
            address = given.get("url") if isinstance(given, dict) else given
            if not isinstance(address, str) or not address.startswith("data:"):
                raise BodyError("messages: an image must be sent as a data: URL; this server fetches nothing")


def _first(error: ValidationError) -> str:
    """Return the first fault of a body: where it is, and what is expected there."""
    found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in found["loc"] if part not in ("str", "list[dict[str,any]]"))
    said = found["msg"].removeprefix("Value error, ")
    return f"{where or 'body'}: {said[:1].lower()}{said[1:]}"
