"""The keys of a recipe that a caller may set, and why the others are refused.

A recipe is the caller's in what it learns and how it is judged. The administrator decides what a run reads, where its models
are served, and for how long it may hold a machine. A key that is in neither table is refused, so that a new key is not open by
accident.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from api.openai_errors import ApiError
from recipes.reader import is_key

WHERE = "recipe"  # its name in errors, which is also the name of the request's field

# By the part of the recipe; `tasks`, for example, are the items of a list.
ALLOWED: dict[str, str] = {
    "chat": "template_arguments tool_parser",
    "data": "validation_share on_bad_row max_tokens too_long",
    "tune": "method beta sft_weight epochs learning_rate warmup batch_tokens rank alpha rslora dora lora_plus dropout targets "
    "weight_decay max_grad_norm checkpoint_every evaluations patience compile",
    "evaluate": "questions sample_rows answer_tokens tasks lm_eval general",
    "evaluate.questions": "ask expect",
    "evaluate.tasks": "data metric at_least rows",
    "evaluate.lm_eval": "task metric num_fewshot rows chat_template at_least allowed_drop",
    "gate": "better_than_base better_than_champion worse_than_champion preference_accuracy keep_expected general_drop",
    "serve": "requests_per_minute answers_alike watch_errors watch_latency_factor",
    "compute": "instance_types capacity max_cost max_hours wait_minutes",
}

_FILES = "the API reads only uploaded files"
_SERVERS = "the administrator decides how models are served"
_ROLLOUT = "the administrator decides how long a rollout or an answer may occupy a machine"
_EXPORT = "the API does not return models, so nothing would read the files"
# A refused part refuses all its keys.
REFUSED: dict[str, str] = {
    "name": "use the field suffix, which follows the team's name",
    "model": "use the field model",
    "data.train": "use the field training_file",
    "data.validation": "use the field validation_file",
    "tune.objective": "use the field method",
    "tune.seed": "use the field seed",
    "evaluate.lm_eval.include": _FILES,
    "registry": "the administrator sets the registry",
    "secrets": "the administrator sets the Secrets",
    "compute.node_class": "the administrator decides how nodes are bought",
    "compute.idle_minutes": "the administrator decides how long a node may be idle",
    "export": _EXPORT,
    "serve.enabled": "every model that passes the gate is served",
    "serve.host": _SERVERS,
    "serve.port": _SERVERS,
    "serve.api_key": "clients always need a key of the API",
    "serve.ready_seconds": _ROLLOUT,
    "serve.answer_seconds": _ROLLOUT,
    "serve.watch_seconds": _ROLLOUT,
    "serve.strategy": _SERVERS,
    "serve.keep_previous": _SERVERS,
    "serve.runtime": _SERVERS,
    "serve.form": _SERVERS,
    "serve.gpus": _SERVERS,
    "serve.replicas": _SERVERS,
    "serve.max_adapters": _SERVERS,
    "serve.max_request_mib": _SERVERS,
    "serve.instance_type": _SERVERS,
}
UNDECIDED = "the API does not know it yet"
_OPEN = {f"{part}.{name}" for part, names in ALLOWED.items() for name in names.split()} | set(ALLOWED)


def check_keys(tree: Mapping[str, Any], refused_there: Mapping[str, str]) -> None:
    """Refuse the keys that a caller may not set.

    A key that no recipe has is left to the recipe's reader, which names the nearest one.

    Args:
        tree: the keys, as the caller has sent them.
        refused_there: keys that the place where jobs run refuses, and why.

    Raises:
        ApiError: one of them is refused; the message says why.
    """
    for key in _given(tree):
        if why := why_refused(key, refused_there):
            raise ApiError(
                400, f"{WHERE}: {key} cannot be set here: {why}", param=f"{WHERE}.{key}", code="key_not_allowed"
            )


def why_refused(key: str, refused_there: Mapping[str, str]) -> str:
    """Return why a caller may not set a key, such as `tune.seed`; empty if it may be set, or if no recipe has it."""
    if why := refused_there.get(key) or REFUSED.get(key):
        return why
    return "" if key in _OPEN or not is_key(key) else UNDECIDED


def _given(tree: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """Yield the keys of a tree; those of a part after the part. What is inside a value that is no part is not a key."""
    for name, value in tree.items():
        key = f"{parent}{name}"
        yield key
        for inner in value if isinstance(value, list) else [value]:
            if key in ALLOWED and isinstance(inner, dict):
                yield from _given(inner, f"{key}.")
