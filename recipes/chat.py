"""The part of a recipe about the model's chat template, in preparation, evaluation and serving alike."""

from typing import Annotated

from pydantic import AfterValidator, Field

from recipes.recipe_part import RecipePart

TemplateArgument = bool | int | float | str
# What a chat template is given by who renders it, not by a setting.
GIVEN = {
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "tokenize",
}


def _names(arguments: dict[str, TemplateArgument]) -> dict[str, TemplateArgument]:
    for name in arguments:
        if not name.isidentifier() or name in GIVEN or name.startswith("return_"):
            raise ValueError(f"{name!r} is no argument that can be set; name one that the model's chat template reads")
    return arguments


TemplateArguments = Annotated[dict[str, TemplateArgument], AfterValidator(_names)]


class ChatSettings(RecipePart):
    """How the model is asked. What is learned, evaluated, and served is the same prompt."""

    template_arguments: TemplateArguments = Field(
        default={},
        description="Arguments of the model's chat template, such as `enable_thinking: true`. They are laid over those of the "
        "model's preset. A client can override them in a request with chat_template_kwargs.",
    )
    tool_parser: str = Field(
        default="auto",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="vLLM's parser that turns the model's calls of tools into tool_calls, such as hermes. auto: the preset's. "
        "none: calls stay text.",
    )
