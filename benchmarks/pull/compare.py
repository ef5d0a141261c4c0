"""Measures how long pulling a model takes with Fineline, huggingface_hub, aria2c if it is installed, and as a local copy.

    uv run python benchmarks/pull/compare.py [--folder FOLDER] [--rounds N] [SCENARIO ...]

In each round, every contender runs in a process of its own with an empty folder. The figures are medians over the rounds;
the ratios are computed per round. The server is another process on this machine and takes its share of the cores. At the
end Fineline and the copy have flushed every file to disk (fsync); huggingface_hub and aria2c leave that to the kernel.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MB = 1_000_000
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
HEADER_BYTES = 256  # of a shard with one tensor
OURS = (
    "from steps.plan.model import resolve_model\n"
    "from steps.pull.publish import publish_model\n"
    "publish_model(resolve_model('hf://org/model'))\n"
)
THEIRS = (
    "import sys\nfrom huggingface_hub import snapshot_download\nsnapshot_download('org/model', local_dir=sys.argv[1])\n"
)
COPY = (
    "import os, shutil, sys\n"
    "from pathlib import Path\n"
    "for file in Path(sys.argv[1]).iterdir():\n"
    "    target = Path(sys.argv[2]) / file.name\n"
    "    shutil.copyfile(file, target)\n"
    "    os.fsync(os.open(target, os.O_RDONLY))\n"
)


@dataclass(frozen=True)
class Scenario:
    """A model and a network."""

    what: str
    files: list[int]  # sizes in bytes
    latency: float  # seconds before each answer
    cap: float  # bytes a second per connection; 0: unlimited


SCENARIOS = {
    "capped": Scenario("three shards, 50 ms, 5 MB/s a connection", [150 * MB] * 3, 0.05, 5 * MB),
    "small": Scenario("200 small files, 50 ms", [20_000] * 200, 0.05, 0.0),
    "open": Scenario("three shards, no latency, no cap", [1000 * MB] * 3, 0.0, 0.0),
}


def make(folder: Path, scenario: Scenario) -> None:
    """Write the model's files, with random bytes, which do not compress."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": {"vocab": {"a": 0}}}))
    shards = {
        f"lm_head.part_{number}": f"model-{number:05d}-of-{len(scenario.files):05d}.safetensors"
        for number in range(1, len(scenario.files) + 1)
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    for size, (tensor, name) in zip(scenario.files, shards.items(), strict=True):
        left = size - HEADER_BYTES
        header = json.dumps({tensor: {"dtype": "U8", "shape": [left], "data_offsets": [0, left]}}).encode()
        with (folder / name).open("wb") as file:
            file.write((HEADER_BYTES - 8).to_bytes(8, "little") + header.ljust(HEADER_BYTES - 8))
            while left:
                left -= file.write(os.urandom(min(left, 1 << 24)))


@contextmanager
def serving(folder: Path, scenario: Scenario) -> Iterator[str]:
    """Start the server and return its address."""
    options = ["--latency", str(scenario.latency), "--cap", str(scenario.cap)]
    command = [sys.executable, HERE / "server.py", folder, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def contenders(source: Path, target: Path, url: str) -> dict[str, list[str]]:
    """Return each contender's command; its files go to `target`, or to folders beside it."""
    found = {
        "fineline": [sys.executable, "-c", OURS],
        "huggingface_hub": [sys.executable, "-c", THEIRS, str(target)],
        "copy": [sys.executable, "-c", COPY, str(source), str(target)],
    }
    if shutil.which("aria2c"):
        listed = target.parent / "urls.txt"
        names = [file.name for file in sorted(source.iterdir())]
        listed.write_text("".join(f"{url}/org/model/resolve/main/{name}\n" for name in names))
        options = ["-x16", "-s16", "-j16", "-k1M", "--file-allocation=none", "--quiet"]
        found["aria2c"] = ["aria2c", *options, "-d", str(target), "-i", str(listed)]
    return found


def measure(command: list[str], target: Path, url: str) -> tuple[float, float]:
    """Run a contender; return its seconds and its peak memory in MB."""
    for folder in (target, target.parent / "weights", target.parent / "runs"):
        shutil.rmtree(folder, ignore_errors=True)
    target.mkdir()
    settings = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(target.parent / "hub"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "FINELINE_WEIGHTS": str(target.parent / "weights"),
        "FINELINE_RUNS": str(target.parent / "runs"),
    }
    shutil.rmtree(target.parent / "hub", ignore_errors=True)
    os.sync()
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        errors.seek(0)
        log = errors.read().decode()
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{command[:3]}: ended with {os.waitstatus_to_exitcode(status)}: {log[-2000:]}")
    if verdict := [line for line in log.splitlines() if "bound by" in line]:
        print(f"    {verdict[-1].partition('; ')[2]}")
    return seconds, used.ru_maxrss / 1024


def compare(name: str, place: Path, rounds: int) -> None:
    """Run a scenario and print its figures."""
    scenario = SCENARIOS[name]
    source, target = place / "source", place / "target"
    make(source, scenario)
    size = sum(file.stat().st_size for file in source.iterdir())
    print(f"{name}: {scenario.what}; {size / MB:.0f} MB in {len(scenario.files) + 1} files")
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    with serving(source, scenario) as url:
        for _ in range(rounds):
            for who, command in contenders(source, target, url).items():
                took, peak = measure(command, target, url)
                seconds.setdefault(who, []).append(took)
                memory[who] = max(memory.get(who, 0.0), peak)
    ours = seconds["fineline"]
    for who, all_took in seconds.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(all_took, ours, strict=True))
        middle = statistics.median(all_took)
        print(
            f"  {who:16} {middle:7.2f} s ({min(all_took):.2f} to {max(all_took):.2f}) {size / MB / middle:6.0f} MB/s, "
            f"{memory[who]:4.0f} MB of memory, {ratio:5.2f} times Fineline's time"
        )
    shutil.rmtree(source)


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="capped, small, open (default: all)")
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        for name in arguments.scenarios or SCENARIOS:
            compare(name, Path(place) / name, arguments.rounds)


if __name__ == "__main__":
    main()
