"""Checks a model's weights by the headers of its safetensors files, usually some ten kilobytes each.

A file begins with the length of its header, 8 bytes, and the header in JSON: of each tensor its type, its shape and its
place in the rest of the file (https://github.com/huggingface/safetensors#format).
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

from presets.architecture import Architecture
from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import Listing, SourceFile
from steps.common.weights.sources.small_file import FilePartReader, part_reader
from steps.common.weights.sources.weights_index import INDEX, read_index, refuse_pointer

FIRST_BYTES = 1 << 16  # most headers are shorter
LONGEST_HEADER = 100_000_000  # bytes; safetensors itself reads no longer ones
CONNECTIONS = 32
FLOATS = {"F64", "F32", "F16", "BF16"}
INTEGERS = {"I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
EMBEDDINGS = {"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"}
HEADS = {"lm_head", "embed_out", "output_layer"}
# Types whose embedding is not tied where config.json does not say it.
UNTIED_BY_DEFAULT = {"granite", "llama", "mistral", "olmo", "olmo2", "phi", "phi3", "qwen2", "qwen3", "stablelm"}
WITH_HEAD = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.")


@dataclass(frozen=True)
class Tensor:
    """A tensor as its header describes it."""

    file: str
    dtype: str
    shape: tuple[int, ...]


def read_tensors(listing: Listing) -> dict[str, Tensor]:
    """Return the tensors of a model by name, from its listed weights.

    Raises:
        UserError: a file is a git-lfs pointer, truncated or not safetensors; a tensor is missing, or of a type that cannot be
            tuned.
        UnreachableError: the source did not answer, even when asked again.
    """
    weights = [file for file in listing.files if file.name.endswith(".safetensors")]
    index = next((file for file in listing.files if file.name == INDEX), None)
    with part_reader() as reader, ThreadPoolExecutor(CONNECTIONS) as pool:
        headers = pool.map(lambda file: _read_header(listing.uri, file, reader), weights)
        tensors = dict(chain.from_iterable(header.items() for header in headers))
        text = reader.read(index, 0, None).decode() if index else ""
    for name, tensor in tensors.items():
        _check_type(listing.uri, name, tensor)
    if index:
        for name, shard in read_index(listing.uri, text).items():
            if name not in tensors or tensors[name].file != shard:
                raise UserError(f"model {listing.uri}: {INDEX} has the tensor {name!r} in {shard}, which lacks it")
    return tensors


def embedding_rows(tensors: dict[str, Tensor]) -> int:
    """Return the number of rows of the embedding; 0 if none of the tensors has the usual name of one."""
    for name, tensor in tensors.items():
        *_, module, leaf = ["", *name.split(".")]
        if module in EMBEDDINGS and leaf == "weight" and len(tensor.shape) == 2:
            return tensor.shape[0]
    return 0


def has_head(tensors: dict[str, Tensor], rows: int) -> bool:
    """Return whether any tensor may be the output embedding: by its name, or with a row for each token.

    Args:
        tensors: by name.
        rows: of the embedding.
    """
    if any(HEADS & set(name.split(".")) for name in tensors):
        return True
    own = [name for name, tensor in tensors.items() if len(tensor.shape) == 2 and tensor.shape[0] == rows]
    return any(not EMBEDDINGS & set(name.split(".")) for name in own)


def compare_with_config(uri: str, tensors: dict[str, Tensor], config: dict[str, Any], shape: Architecture) -> None:
    """Refuse weights that are not those of the model's config.json, and those without a head.

    Raises:
        UserError: with both, or with what is missing.
    """
    rows = embedding_rows(tensors)
    if rows and rows != shape.vocabulary:
        raise UserError(
            f"model {uri}: its config.json has a vocab_size of {shape.vocabulary}, and its embedding has {rows} rows; correct "
            "config.json, or save the model again"
        )
    layers = 1 + max((int(found[1]) for name in tensors if (found := LAYER.search(name))), default=-1)
    if 0 < layers < shape.layers:
        raise UserError(
            f"model {uri}: its config.json has {shape.layers} layers, and its weights have {layers}; complete the upload, or "
            "choose another revision"
        )
    classes = config.get("architectures") or []
    untied = not shape.tied_embeddings and not has_head(tensors, shape.vocabulary)
    if untied and classes and not any(str(name).endswith(WITH_HEAD) for name in classes):
        raise UserError(
            f"model {uri}: its weights are those of {classes[0]}, without a language model's head; choose the repository of "
            "the language model"
        )
    # Without the key, it depends on the type; of one that is not known here, it is not said.
    apart = config.get("tie_word_embeddings", config.get("model_type") not in UNTIED_BY_DEFAULT) is False
    if untied and apart and rows:
        raise UserError(
            f"model {uri}: its weights lack the output embedding (lm_head), which would be a random one, and its config.json "
            "does not tie it to the input embedding; complete the upload, or set tie_word_embeddings to true if the model "
            "shares its embedding"
        )


def _read_header(uri: str, file: SourceFile, reader: FilePartReader) -> dict[str, Tensor]:
    start = reader.read(file, 0, FIRST_BYTES)
    refuse_pointer(uri, file.name, start[:200].decode(errors="replace"))
    length = int.from_bytes(start[:8], "little")
    size = file.bytes or None
    if len(start) < 8:
        raise UserError(f"model {uri}: {file.name} is truncated: it has {len(start)} bytes; {_AGAIN}")
    if length > LONGEST_HEADER:
        raise UserError(f"model {uri}: {file.name} is not a safetensors file; choose another revision")
    if size is not None and size < 8 + length:
        raise UserError(f"model {uri}: {file.name} is truncated: its header alone has {length} bytes; {_AGAIN}")
    header = start[8 : 8 + length]
    if len(header) < length:
        header += reader.read(file, len(start), 8 + length)
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        tensors = {
            name: Tensor(file.name, str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"model {uri}: {file.name} is not a safetensors file; choose another revision") from None
    if size is not None and size != 8 + length + end:
        state = "is truncated" if size < 8 + length + end else "is damaged"
        raise UserError(
            f"model {uri}: {file.name} {state}: it has {size} bytes, and its header describes {8 + length + end}; {_AGAIN}"
        )
    return tensors


_AGAIN = "upload it again, or choose another revision"


def _check_type(uri: str, name: str, tensor: Tensor) -> None:
    integer_weight = tensor.dtype in INTEGERS and name.rpartition(".")[2] in ("weight", "qweight", "weight_packed")
    if tensor.dtype not in FLOATS | INTEGERS or integer_weight:
        raise UserError(
            f"model {uri}: is published quantised: {name} in {tensor.file} is of type {tensor.dtype}; choose the repository "
            "with the original weights"
        )
