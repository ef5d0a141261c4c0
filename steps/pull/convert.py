"""Converts a GGUF file into what tuning needs: bf16 safetensors, config and tokenizer."""

import os
from pathlib import Path

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the dequantised model of a GGUF file into `folder`.

    Raises:
        UserError: transformers cannot read it.
    """
    say(f"{file.name}: converting to safetensors")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        # Without dequantize=True transformers treats the model as quantised, and can neither save nor train it.
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"{file.name}: transformers cannot read this GGUF: {error}") from None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
