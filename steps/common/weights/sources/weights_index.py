"""model.safetensors.index.json: which shard of a model has which tensor."""

import json

from steps.common.runtime.errors import UserError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/"  # how a file begins that git-lfs has not fetched


def read_index(uri: str, text: str) -> dict[str, str]:
    """Return the shard of each tensor.

    Args:
        uri: of the model, for messages.
        text: content of the index.

    Raises:
        UserError: it is not a weights index.
    """
    refuse_pointer(uri, INDEX, text)
    try:
        shards = json.loads(text)["weight_map"]
    except (ValueError, KeyError, TypeError):
        shards = {}
    if not shards or not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"model {uri}: {INDEX} is not a weights index")
    return shards


def refuse_pointer(uri: str, name: str, text: str) -> None:
    """Refuse a file that is only a git-lfs pointer.

    Raises:
        UserError: it is one.
    """
    if text.startswith(POINTER):
        raise UserError(
            f"model {uri}: {name} is a git-lfs pointer, not the file itself; run 'git lfs pull' in the repository that it was "
            "copied from, and copy it again"
        )
