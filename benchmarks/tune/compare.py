"""Compares the speed and the memory of QLoRA tuning in Fineline and in TRL's SFTTrainer, on the same rows and model.

    uv run --with 'trl>=1.16,<1.17' python benchmarks/tune/compare.py [--rows N] [--rounds N] [CONTENDER ...]

Both tune SmolLM2-135M-Instruct in NF4 with double quantisation and a LoRA of rank 16 on all linear layers, for one epoch,
with eight rows per optimizer step. TRL runs with its default settings, except that it computes in the dtype that is fast on
this processor, which Fineline selects by itself: without AVX-512, bf16 would be thirty times slower. `trl-packed` also has
packing enabled, and micro-batches of as many tokens as Fineline's.

The rows are chats of mixed length: most are short, some are long. TRL trains on all of their tokens, since its
assistant-only loss does not support this model's template; Fineline trains on the assistant's messages. Each contender runs
in a separate process, in turn, for several rounds. Seconds are those of the training steps, without imports, loading and
tokenising. Tokens are those of the rows, without padding. The peak is that of the whole process.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONTENDERS = {
    "fineline": ["fineline_tune.py"],
    "trl": ["trl_tune.py"],
    "trl-packed": ["trl_tune.py", "--packed"],
}
ROWS_A_STEP = 8
MEDIAN_WORDS, SPREAD, LONGEST_WORDS = 60, 0.9, 500
WORDS = (HERE / "words.txt").read_text().split()


def write_rows(file: Path, count: int) -> None:
    """Write chats whose lengths follow a log-normal distribution, the same ones each time."""
    generator = random.Random(7)

    def text(words: int) -> str:
        return " ".join(generator.choice(WORDS) for _ in range(words))

    with file.open("w") as out:
        for _ in range(count):
            words = min(LONGEST_WORDS, max(4, round(MEDIAN_WORDS * generator.lognormvariate(0, SPREAD))))
            turns = [("user", f"{text(max(4, words // 4))}?"), ("assistant", f"{text(words)}.")]
            out.write(json.dumps({"messages": [{"role": role, "content": said} for role, said in turns]}) + "\n")


def measure(script: list[str], folder: Path) -> dict[str, Any]:
    """Run a contender, and return its answer: seconds, tokens, peak_bytes, first_loss, last_loss."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / script[0]), str(folder), str(ROWS_A_STEP), *script[1:]]
    settings = {**os.environ, "FINELINE_RUNS": str(folder / "runs"), "TOKENIZERS_PARALLELISM": "false"}
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{script}: exit code {ended.returncode}: {ended.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def main() -> None:
    """Run the contenders and print their figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=f"{', '.join(CONTENDERS)} (default: all)")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parsed = parser.parse_args()
    if unknown := set(parsed.contenders) - set(CONTENDERS):
        parser.error(f"unknown contender {unknown.pop()!r}; choose from {', '.join(CONTENDERS)}")
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_rows(folder / "rows.jsonl", parsed.rows)
        for _ in range(parsed.rounds):
            for who in parsed.contenders or CONTENDERS:
                found.setdefault(who, []).append(measure(CONTENDERS[who], folder))
                last = found[who][-1]
                print(f"    {who}: {last['tokens'] / last['seconds']:.0f} tokens/s", file=sys.stderr)
    for who, rounds in found.items():
        speeds = [one["tokens"] / one["seconds"] for one in rounds]
        memory = statistics.median(one["peak_bytes"] for one in rounds)
        line = (
            f"{who:12} {statistics.median(speeds):6.0f} tokens/s ({min(speeds):.0f} to {max(speeds):.0f}), "
            f"{memory / (1 << 30):.2f} GiB, loss {rounds[0]['first_loss']:.2f} to {rounds[0]['last_loss']:.2f}"
        )
        if "fineline" in found and who != "fineline":
            ours = [one["tokens"] / one["seconds"] for one in found["fineline"]]
            ratio = statistics.median(a / b for a, b in zip(ours, speeds, strict=True))
            took = statistics.median(one["peak_bytes"] for one in found["fineline"]) / memory
            line += f"; Fineline is {ratio:.2f} times as fast, with {took:.2f} of the memory"
        print(line)


if __name__ == "__main__":
    main()
