"""The tokens at which an answer ends."""

import json
from pathlib import Path
from typing import Any

GENERATION_CONFIG = "generation_config.json"


def stop_tokens(tokenizer: Any, published: int | list[int] | None, end_of_turn: str) -> list[int]:
    """Return the ids of the tokens at which a server ends an answer, in ascending order.

    Args:
        tokenizer: of the model; vLLM ends at its eos token, transformers does not.
        published: `eos_token_id` of the model's generation config.
        end_of_turn: token that ends an answer according to the model's preset; empty: not known.
    """
    found = set(published if isinstance(published, list) else [] if published is None else [published])
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    token = tokenizer.convert_tokens_to_ids(end_of_turn) if end_of_turn else None
    if token is not None and tokenizer.convert_ids_to_tokens(token) == end_of_turn:  # an unknown one has another's id
        found.add(token)
    return sorted(found)


def published_stop_tokens(folder: Path) -> list[int]:
    """Return `eos_token_id` of the generation config in a model's folder; empty if there is none."""
    try:
        found = json.loads((folder / GENERATION_CONFIG).read_text(encoding="utf-8")).get("eos_token_id")
    except (FileNotFoundError, ValueError, AttributeError):
        return []
    ids = found if isinstance(found, list) else [found]
    return [token for token in ids if isinstance(token, int)]
