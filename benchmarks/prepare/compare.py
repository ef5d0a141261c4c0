"""Compares Fineline's preparation of rows with a plain `datasets.map` of chat template and tokenizer, on the same chats.

    uv run python benchmarks/prepare/compare.py [--rows N] [--rounds N] [--folder FOLDER] [CONTENDER ...]

Both read one JSONL file of chats, of some 300 tokens each with SmolLM2's tokenizer, and use as many processes as there are
cores. `map` renders and tokenises. Fineline checks, parses and labels each row too, removes duplicates, and splits the rows.
Each contender runs in a process of its own, in turn, for several rounds; ratios are computed per round. Seconds do not
include imports; those of `map` include the reading of the file, without which they are shown too. On a machine with other
work, the rows per second of processor time say more than those per second.

Then `start` is what a tuning does with the rows before it trains: it reads their lengths and packs them. After that it reads
the rows of all steps, or of the first 300.

Memory is the largest sum of proportional set sizes (PSS) over the processes of a contender, in which a shared page counts once.
Of `start`, it is what the rows add to the process.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy
import psutil

HERE = Path(__file__).parent
CONTENDERS = {"fineline": "fineline_prepare.py", "map": "map_prepare.py", "start": "tuning_start.py"}
WORDS = (HERE.parent / "tune" / "words.txt").read_text().split()
RARE = 0.05  # portion of words that are made of two, which a tokenizer has seldom seen before
MEDIAN_WORDS, SPREAD, LONGEST_WORDS = 60, 0.8, 600  # of an answer
MOST_TURNS = 3
GIB, SAMPLED_SECONDS = 1 << 30, 0.5


def write_rows(file: Path, count: int) -> None:
    """Write chats of one to three turns, whose lengths follow a log-normal distribution, the same ones each time."""
    generator = numpy.random.default_rng(7)

    def text(words: int) -> str:
        first, second = generator.integers(len(WORDS), size=(2, words)).tolist()
        rare = (generator.random(words) < RARE).tolist()
        return " ".join(
            WORDS[a] + WORDS[b] if both else WORDS[a] for a, b, both in zip(first, second, rare, strict=True)
        )

    with file.open("w") as out:
        for number in range(count):
            messages = []
            for _ in range(1 + number % MOST_TURNS):
                words = min(LONGEST_WORDS, max(8, round(MEDIAN_WORDS * generator.lognormal(0, SPREAD))))
                messages += [
                    {"role": "user", "content": f"{text(max(4, words // 3))} {number}?"},
                    {"role": "assistant", "content": f"{text(words)}."},
                ]
            out.write(json.dumps({"messages": messages}) + "\n")


def pss(process: psutil.Process) -> int:
    """Return the proportional set sizes of a process and of all that it has started, in bytes."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def measure(script: str, folder: Path) -> dict[str, Any]:
    """Run a contender, and return its answer with its peak_bytes."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    settings = {
        **os.environ,
        "FINELINE_RUNS": str(folder / "runs"),
        "HF_HOME": str(folder / "hub"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    log = folder / "log.txt"
    with log.open("w") as out:
        running = psutil.Popen([sys.executable, str(HERE / script), str(folder)], env=settings, stdout=out, stderr=out)
        peak = 0
        while running.poll() is None:
            peak = max(peak, pss(running))
            time.sleep(SAMPLED_SECONDS)
    if running.returncode:
        sys.exit(f"{script}: exit code {running.returncode}: {log.read_text()[-3000:]}")
    found: dict[str, Any] = {"peak_bytes": peak, **json.loads(answer.read_text())}
    return found


def set_up(folder: Path, rows: int) -> None:
    """Write the chats, and fetch the tokenizer, in processes of their own."""
    if not (folder / "rows.jsonl").exists():
        write_rows(folder / "rows.partial", rows)
        (folder / "rows.partial").rename(folder / "rows.jsonl")
    settings = {**os.environ, "FINELINE_RUNS": str(folder / "runs")}
    subprocess.run(
        [sys.executable, str(HERE / CONTENDERS["fineline"]), str(folder), "--fetch"], env=settings, check=True
    )


def main() -> None:
    """Run the contenders and print their figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=f"{', '.join(CONTENDERS)} (default: all)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, help="where to work; what is there is kept (default: a temporary folder)"
    )
    parsed = parser.parse_args()
    if unknown := set(parsed.contenders) - set(CONTENDERS):
        parser.error(f"unknown contender {unknown.pop()!r}; choose from {', '.join(CONTENDERS)}")
    found: dict[str, list[dict[str, Any]]] = {}
    folder = parsed.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        set_up(folder, parsed.rows)
        for _ in range(parsed.rounds):
            for who in parsed.contenders or CONTENDERS:
                found.setdefault(who, []).append(measure(CONTENDERS[who], folder))
                print(f"    {who}: {found[who][-1]}", file=sys.stderr)
    finally:
        if not parsed.folder:
            shutil.rmtree(folder)
    for who, rounds in found.items():
        print(f"{who:9} {line_of(who, rounds)}")
    if {"fineline", "map"} <= found.keys():
        pairs = zip(found["fineline"], found["map"], strict=True)
        print(
            f"Fineline is {statistics.median(theirs['seconds'] / ours['seconds'] for ours, theirs in pairs):.2f} times as fast"
        )


def line_of(who: str, rounds: list[dict[str, Any]]) -> str:
    """Return a contender's figures, medians over the rounds."""

    def median(name: str) -> float:
        return statistics.median(one[name] for one in rounds)

    if who == "start":
        return (
            f"{rounds[0]['rows']} rows read and packed into {rounds[0]['packs']} in {median('seconds'):.1f} s, "
            f"{median('rows_bytes') / GIB:.2f} GiB for them; {median('trained_bytes') / GIB:.2f} GiB after "
            f"{rounds[0]['trained_tokens']} tokens were read"
        )
    rates = [one["rows"] / one["seconds"] / one["cores"] for one in rounds]
    return (
        f"{statistics.median(rates):6.0f} rows/s a core ({min(rates):.0f} to {max(rates):.0f}) on {rounds[0]['cores']} cores, "
        f"{statistics.median(one['rows'] / one['cpu_seconds'] for one in rounds):.0f} per second of processor time, "
        f"{median('seconds'):.0f} s ({rounds[0]['part']}: {median('part_seconds'):.0f} s), {rounds[0]['tokens']} tokens, "
        f"{median('peak_bytes') / GIB:.2f} GiB of memory, {median('disk_bytes') / GIB:.2f} GiB of disk"
    )


if __name__ == "__main__":
    main()
