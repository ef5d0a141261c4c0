"""Which of a folder's files make up the model: one set of weights in transformers' layout, and the small files beside it."""

import json

from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import Listing, SourceFile, is_adapter_file
from steps.common.weights.sources.small_file import read_small
from steps.common.weights.sources.weights_index import INDEX, SINGLE, read_index

ADAPTER_CONFIG = "adapter_config.json"


def choose_files(found: Listing) -> Listing:
    """Return the listing with one set of weights: the shards of the index if all are there, else model.safetensors.

    Everything else that looks like weights is left out: the same weights in another layout, such as Mistral's
    `consolidated.safetensors`, and an adapter beside the model.

    Args:
        found: all files of the folder that `is_wanted`.

    Raises:
        UserError: it is not a model's folder, is an adapter alone, or lacks a shard.
        UnreachableError: the source did not answer, even when asked again.
    """
    uri, names = found.uri, {file.name: file for file in found.files}
    weights = {name for name in names if name.endswith(".safetensors") and not is_adapter_file(name)}
    if ADAPTER_CONFIG in names and not weights:
        raise UserError(_adapter_alone(uri, names[ADAPTER_CONFIG]))
    if "config.json" in names and not weights:
        raise UserError(f"model {uri}: has no safetensors; choose a repository that has (pickled weights can run code)")
    if "config.json" not in names:
        raise UserError(
            f"model {uri}: not a model's folder: it needs config.json and *.safetensors (pickled weights can run code)"
        )
    chosen = _chosen_weights(uri, names, weights)
    index = {INDEX} if chosen != {SINGLE} else set()
    left_out = {name for name in names if _is_weights(name) and name not in chosen | index}
    return found.model_copy(
        update={
            "files": [file for file in found.files if file.name not in left_out],
            "left_out": [file for file in found.files if file.name in left_out],
        }
    )


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json")) or is_adapter_file(name)


def _chosen_weights(uri: str, names: dict[str, SourceFile], weights: set[str]) -> set[str]:
    missing: list[str] = []
    if INDEX in names:
        shards = set(read_index(uri, _text(uri, names[INDEX])).values())
        missing = sorted(shards - weights)
        if not missing:
            return shards
    if SINGLE in weights:
        return {SINGLE}
    if missing:
        more = f" and {len(missing) - 1} more that are" if len(missing) > 1 else ", which is"
        raise UserError(
            f"model {uri}: {INDEX} names {missing[0]!r}{more} not there; complete the upload, or choose another revision"
        )
    raise UserError(
        f"model {uri}: has neither {SINGLE} nor {INDEX}, but {sorted(weights)[0]!r}; choose a repository in the layout of "
        "transformers' save_pretrained"
    )


def _adapter_alone(uri: str, config: SourceFile) -> str:
    try:
        base = json.loads(_text(uri, config))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not base or not isinstance(base, str):
        return f"model {uri}: is an adapter without its base model; set model to that base"
    at = "" if "://" in base or base.startswith("/") else f": model: hf://{base}"
    return f"model {uri}: is an adapter of {base!r}, not a model; set model to that base{at}"


def _text(uri: str, file: SourceFile) -> str:
    try:
        return read_small(file)
    except UnicodeDecodeError:
        raise UserError(f"model {uri}: {file.name} is not text") from None
