"""Writes a merged model as one GGUF file, tensor by tensor."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.common.gguf.architectures import architecture
from steps.common.gguf.quantisations import VOCABULARY_BYTES
from steps.common.runtime.progress import Progress
from steps.export.disk_room import MB, check_room
from steps.export.gguf_parameters import add_parameters, rotary_tensors
from steps.export.gguf_tensors import GgufTensor, contents, tensors
from steps.export.gguf_vocabulary import add_vocabulary


@dataclass(frozen=True)
class About:
    """What a GGUF file says of where it comes from."""

    name: str
    version: str
    licence: str
    base: str  # its name
    base_uri: str


def write_gguf(folder: Path, target: Path, quantisation: str, about: About) -> None:
    """Write the model of a folder as `target`, which is there whole or not at all by the caller's doing.

    Args:
        folder: safetensors, configuration and tokenizer, as transformers has them.
        target: the file.
        quantisation: of its matrices, as `steps.common.gguf.quantisations` names them.
        about: what the file says of itself.

    Raises:
        UserError: the disk has no room for it, or llama.cpp has no such tensor or tokenizer.
    """
    import gguf
    from transformers import AutoConfig

    logging.getLogger("gguf").setLevel(logging.ERROR)
    config = AutoConfig.from_pretrained(folder)
    arch = architecture(config.model_type)
    planned = tensors(folder, config, arch, quantisation)
    rows = next(tensor.shape[0] for tensor in planned if tensor.name == "token_embd.weight")
    size = sum(tensor.bytes for tensor in planned)
    check_room(target.parent, size + VOCABULARY_BYTES, "the GGUF file")
    writer = gguf.GGUFWriter(None, arch)
    _add_general(writer, about, quantisation, sum(_count(tensor) for tensor in planned))
    add_parameters(writer, config, rows)
    add_vocabulary(writer, folder, rows)
    rotary = rotary_tensors(config)
    for name, values in rotary.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for tensor in planned:
        writer.add_tensor_info(tensor.name, tensor.shape, None, tensor.bytes, raw_dtype=tensor.kind)
    try:
        writer.write_header_to_file(target)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for values in rotary.values():
            writer.write_tensor_data(values)
        progress, done = Progress(size // MB, "MB"), 0
        for tensor, data in contents(planned, config, arch):
            writer.write_tensor_data(data)
            done += tensor.bytes
            progress.update(done // MB, tensor.name)
    finally:
        writer.close()


def _count(tensor: GgufTensor) -> int:
    count = 1
    for length in tensor.shape:
        count *= length
    return count


def _add_general(writer: Any, about: About, quantisation: str, parameters: int) -> None:
    import gguf

    kind = "MOSTLY_" + quantisation.upper()
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(about.name)
    writer.add_version(about.version)
    writer.add_size_label(gguf.size_label(parameters, 0, 0, 0))
    writer.add_license(about.licence)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, about.base)
    writer.add_base_model_repo_url(0, about.base_uri)
    writer.add_file_type(gguf.LlamaFileType[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
