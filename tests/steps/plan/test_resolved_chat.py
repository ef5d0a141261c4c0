"""One setting says how a model is asked: the recipe's, laid over the preset's. Every step and server gets it."""

import json
from typing import Any

import pytest

from recipes.reader import RecipeError, load
from steps.common.handover.covered_settings import covered_settings
from steps.common.handover.resolved import ResolvedChat
from steps.plan.model import known_model, resolved_chat
from steps.plan.serving_plan import ServingSettings, plan_serving
from steps.rollout.server.serve_model import chat_options

VLLM = ServingSettings(in_cluster=True, vllm_image="vllm", instance_type="")


def recipe(model: str, **changes: str) -> Any:
    return load("pet-store", {"model": model} | {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("model", "changes", "arguments", "parser"),
    [
        ("qwen3-4b", {}, {"enable_thinking": False}, "hermes"),
        ("qwen3-4b", {"chat__template_arguments__enable_thinking": "true"}, {"enable_thinking": True}, "hermes"),
        ("qwen3-4b", {"chat__tool_parser": "none"}, {"enable_thinking": False}, ""),
        ("llama-3.1-8b-instruct", {"chat__tool_parser": "pythonic"}, {}, "pythonic"),
        ("smollm2-135m-instruct", {"chat__template_arguments__mood": "happy"}, {"mood": "happy"}, ""),
        ("file:///a", {}, {}, ""),
    ],
)
def test_a_recipe_is_laid_over_the_preset(
    model: str, changes: dict[str, str], arguments: dict[str, Any], parser: str
) -> None:
    found = resolved_chat(recipe(model, **changes))
    assert (found.template_arguments, found.tool_parser) == (arguments, parser)


def test_every_server_gets_it() -> None:
    asked = recipe("qwen3-4b", serve__gpus="1")
    plan = plan_serving(asked, known_model("qwen3-4b"), VLLM)
    assert plan.arguments == [
        '--default-chat-template-kwargs={"enable_thinking": false}',
        "--enable-auto-tool-choice",
        "--tool-call-parser=hermes",
    ]
    flag, given = chat_options(resolved_chat(asked))
    assert flag == "--chat"
    assert json.loads(given) == {"template_arguments": {"enable_thinking": False}, "end_of_turn": "<|im_end|>"}
    assert chat_options(ResolvedChat()) == []


def test_a_digest_of_a_recipe_leaves_to_the_resolved_chat_how_the_model_is_asked() -> None:
    default = covered_settings(recipe("qwen3-4b"))
    assert covered_settings(recipe("qwen3-4b", chat__tool_parser="none")) == default
    assert covered_settings(recipe("qwen3-4b", chat__template_arguments__enable_thinking="false")) == default


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "return_dict", "a b"])
def test_what_the_template_is_given_anyway_cannot_be_set(name: str) -> None:
    text = json.dumps({"name": "a", "data": {"train": "x"}, "chat": {"template_arguments": {name: True}}})
    with pytest.raises(RecipeError, match="is no argument that can be set"):
        load(text, {})
