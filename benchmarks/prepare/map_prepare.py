"""The contender `map` of `compare.py`: what a short script with `datasets` does, chat template and tokenizer."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import datasets
from processor_time import cpu_seconds
from transformers import AutoTokenizer

from steps.common.machine.devices import cores

folder = Path(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained((folder / "base.txt").read_text())
cache = folder / "map"
shutil.rmtree(cache, ignore_errors=True)
datasets.disable_progress_bars()


def tokenised(batch: dict[str, Any]) -> Any:
    """Render and tokenise some chats."""
    texts = tokenizer.apply_chat_template(batch["messages"], tokenize=False)
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False)


began, used = time.monotonic(), cpu_seconds()
chats = datasets.load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train", cache_dir=str(cache))
read = time.monotonic()
tokens = chats.map(tokenised, batched=True, num_proc=cores(), remove_columns=chats.column_names)
done = time.monotonic()
answer = {
    "rows": len(tokens),
    "seconds": done - began,
    "cpu_seconds": cpu_seconds() - used,
    "cores": cores(),
    "part": "the map alone",
    "part_seconds": done - read,
    "tokens": sum(len(chunk.values) for chunk in tokens.data.column("input_ids").chunks),
    "disk_bytes": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()),
}
(folder / "answer.json").write_text(json.dumps(answer))
shutil.rmtree(cache)
