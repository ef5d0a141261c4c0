"""Writes a merged model as a GGUF file, tensor by tensor."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.common.gguf.architectures import architecture
from steps.common.gguf.quantisations import VOCABULARY_BYTES
from steps.common.runtime.progress import Progress
from steps.export.disk_space import MB, check_disk_space
from steps.export.gguf_parameters import add_parameters, rotary_tensors
from steps.export.gguf_tensors import GgufTensor, plan_tensors, tensor_contents
from steps.export.gguf_vocabulary import add_vocabulary


@dataclass(frozen=True)
class GgufMetadata:
    """The provenance that a GGUF file states."""

    name: str
    version: str
    licence: str
    base: str  # name of the base model
    base_uri: str


def write_gguf(folder: Path, target: Path, quantisation: str, metadata: GgufMetadata) -> None:
    """Write a model as a GGUF file. The caller renames the file once it is complete.

    Args:
        folder: of the model: safetensors, configuration and tokenizer, as transformers writes them.
        target: the file to write.
        quantisation: of the matrices, by its name in `steps.common.gguf.quantisations`.
        metadata: provenance.

    Raises:
        UserError: too little disk space is free, or llama.cpp does not support a tensor or the tokenizer.
    """
    import gguf
    from transformers import AutoConfig

    logging.getLogger("gguf").setLevel(logging.ERROR)
    config = AutoConfig.from_pretrained(folder)
    arch = architecture(config.model_type)
    planned = plan_tensors(folder, config, arch, quantisation)
    rows = next(tensor.shape[0] for tensor in planned if tensor.name == "token_embd.weight")
    size = sum(tensor.bytes for tensor in planned)
    check_disk_space(target.parent, size + VOCABULARY_BYTES, "the GGUF file")
    writer = gguf.GGUFWriter(None, arch)
    _add_general(writer, metadata, quantisation, sum(_count(tensor) for tensor in planned))
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
        for tensor, data in tensor_contents(planned, config, arch):
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


def _add_general(writer: Any, metadata: GgufMetadata, quantisation: str, parameters: int) -> None:
    import gguf

    kind = "MOSTLY_" + quantisation.upper()
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(metadata.name)
    writer.add_version(metadata.version)
    writer.add_size_label(gguf.size_label(parameters, 0, 0, 0))
    writer.add_license(metadata.licence)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, metadata.base)
    writer.add_base_model_repo_url(0, metadata.base_uri)
    writer.add_file_type(gguf.LlamaFileType[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
