"""Measures tuning on this machine's GPU: tokens per second, MFU, and peak memory against the prediction.

    uv run python benchmarks/tune/shapes.py [--tokens N] [SHAPE ...]          # 1b, 8b, tiny

Tunes Llamas with random weights, since speed and memory depend only on the shape, with the tune step itself: QLoRA of rank
16, rows of mixed length, packed and one by one. `tiny` is for trying the script on a CPU. Each line of output is a separate
process.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

GIB = 1 << 30
SHAPES: dict[str, dict[str, int]] = {
    # Llama-3.2-1B and Llama-3.1-8B
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
LONGEST, MEDIAN, SPREAD = 2048, 300, 0.8  # tokens per row, in a log-normal distribution
PACKINGS = ("packed", "one by one")


def write_model(folder: Path, shape: dict[str, int]) -> None:
    """Write a Llama with random weights, in bf16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **shape, max_position_embeddings=8192, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="2GB")
    for file in folder.iterdir():
        file.chmod(0o644)


def write_rows(folder: Path, tokens: int, vocabulary: int) -> None:
    """Write prepared rows of random tokens, and chats of about the same size from which the plan estimates them."""
    from steps.common.model.packs import IGNORE_INDEX, TokenRow
    from steps.common.model.prepared_rows import TRAIN, VALIDATION, table_of, write_rows

    generator = random.Random(11)
    folder.mkdir()
    left, rows = tokens, []
    with (folder / "chats.jsonl").open("w") as chats:
        while left > 0:
            length = min(LONGEST, max(16, round(MEDIAN * generator.lognormvariate(0, SPREAD))))
            left -= length
            ids = [generator.randrange(3, vocabulary) for _ in range(length)]
            rows.append(TokenRow(ids, [IGNORE_INDEX] * (length // 3) + ids[length // 3 :]))
            turns = [{"role": "user", "content": f"{left}?"}, {"role": "assistant", "content": "abc " * length}]
            chats.write(json.dumps({"messages": turns}) + "\n")
    write_rows(folder / TRAIN, [table_of(rows)])
    write_rows(folder / VALIDATION, [])


def tune(place: Path, packing: str) -> dict[str, Any]:
    """Tune in this process, and return the report."""
    from steps.common.handover.resolved import Hardware
    from steps.common.model.prepared_rows import TRAIN, PreparedTexts
    from steps.plan.step import PlanInput, resolve
    from steps.tune.loop.micro_batch_plan import MicroBatchPlan, save_plan
    from steps.tune.train_process import TuningJob, run_train_process

    recipe = {
        "name": "benchmark",
        "model": (place / "model").as_uri(),
        "data": {"train": str(place / "rows" / "chats.jsonl"), "max_tokens": LONGEST},
        "tune": {"evaluations": 0},
        "serve": {"enabled": False},
    }
    resolved = resolve(PlanInput(recipe=yaml.safe_dump(recipe)))
    rung = resolved.quote.first
    folder = place / packing.replace(" ", "-")
    folder.mkdir()
    if packing != "packed":
        rows = len(PreparedTexts.open(place / "rows" / TRAIN))
        rows_per_step = max(1, round(rows * resolved.recipe.tune.batch_tokens / max(1, resolved.quote.tokens)))
        save_plan(folder, MicroBatchPlan(micro_batch_tokens=1, micro_batches=rows_per_step, at_once=1))
    hardware = Hardware(rung=rung, node="here", since=time.time())
    run_train_process(
        TuningJob(
            resolved=resolved,
            hardware=hardware,
            base_folder=str(place / "model"),
            rows_folder=str(place / "rows"),
            folder=str(folder),
        )
    )
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {**report, "device": rung.device.name, "activations": rung.activations}


def main() -> None:
    """Tune each shape, and print a line for each packing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"{', '.join(SHAPES)} (default: 1b 8b)")
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens to tune on (default: 200000)")
    parser.add_argument("--child", nargs=2, metavar=("PLACE", "PACKING"), help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        print(json.dumps(tune(Path(parsed.child[0]), parsed.child[1])))
        return
    if unknown := set(parsed.shapes) - set(SHAPES):
        parser.error(f"unknown shape {unknown.pop()!r}; choose from {', '.join(SHAPES)}")
    for name in parsed.shapes or ["1b", "8b"]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_model(place / "model", SHAPES[name])
            write_rows(place / "rows", parsed.tokens, SHAPES[name]["vocab_size"])
            for packing in PACKINGS:
                settings = {
                    **os.environ,
                    "FINELINE_RUNS": str(place / "runs"),
                    "FINELINE_WEIGHTS": str(place / "weights"),
                }
                command = [sys.executable, __file__, "--child", str(place), packing]
                ended = subprocess.run(command, env=settings, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(ended.stdout.splitlines()[-1])
                print(
                    f"{name:5} {packing:11} {found['device']}, {found['micro_batch_tokens']} tokens, activations "
                    f"{found['activations']}: {found['tokens_a_second']:.0f} tokens/s, MFU {found['mfu']:.0%}, "
                    f"{found['peak_bytes'] / GIB:.2f} GiB used, {found['predicted_bytes'] / GIB:.2f} predicted"
                )


if __name__ == "__main__":
    main()
