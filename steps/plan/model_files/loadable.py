"""Whether transformers loads a model's config and tokenizer without code from its repository, which is never run."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from steps.common.runtime.errors import UserError


def refuse_foreign_code(uri: str, config: dict[str, Any], tokenizer_config: dict[str, Any]) -> None:
    """Refuse a model of a type that the pinned transformers does not have, or with a tokenizer in code of its own.

    A repository may name code (`auto_map`) for older versions of transformers: one that has the type uses its own.

    Args:
        uri: of the model, for messages.
        config: content of config.json.
        tokenizer_config: content of tokenizer_config.json; empty if there is none.

    Raises:
        UserError: with the type, and what to choose instead.
    """
    known, kind = _known(), config.get("model_type")
    transformers = f"transformers {known['transformers']}"
    if not kind:
        raise UserError(
            f"model {uri}: its config.json does not set model_type; choose a repository in the layout of transformers' "
            "save_pretrained"
        )
    if kind not in known["causal"]:
        if config.get("auto_map"):
            raise UserError(
                f"model {uri}: its model_type {kind!r} needs Python code of its repository (auto_map), which is never "
                f"run; choose a model of a type that {transformers} has itself"
            )
        raise UserError(
            f"model {uri}: {transformers} loads no language model of model_type {kind!r}; choose a model of another type"
        )
    coded = _tokenizer_code(tokenizer_config)
    if coded and kind not in known["tokenizers"] and coded == tokenizer_config.get("tokenizer_class"):
        raise UserError(
            f"model {uri}: its tokenizer {coded} needs Python code of its repository (auto_map), which is never run; choose a "
            "repository with a tokenizer of transformers"
        )


def _tokenizer_code(tokenizer_config: dict[str, Any]) -> str:
    """Return the class that a tokenizer's auto_map names; empty if it has none."""
    code = tokenizer_config.get("auto_map")
    named = code.get("AutoTokenizer") if isinstance(code, dict) else code
    first = next((one for one in named if one), "") if isinstance(named, list) else named
    return str(first or "").rpartition(".")[2]


@cache
def _known() -> dict[str, Any]:
    text = resources.files("steps.plan.model_files").joinpath("model_types.yaml").read_text()
    known: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return known
