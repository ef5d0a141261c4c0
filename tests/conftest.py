"""Separate folders for every test, and a model small enough to train in seconds."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

# Tests run in parallel and start steps as processes. torch's threads spin while they wait, which takes the cores from processes
# that have work to do, and two threads compute a two-layer model no faster than one. torch reads both settings when it is
# imported, here and in every process that a test starts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "we are open on monday when do you have food for cats dogs fish hamsters birds yes no a in of it is happy tails".split()  # noqa: SIM905


# The slowest tests start first so that both processes stay busy to the end. A wrong order costs only time.
LONGEST = [
    "tests/api/machine/test_job_queue.py",
    "tests/pipelines/machine/test_versions.py",
    "tests/pipelines/machine/test_main_job.py",
    "tests/pipelines/machine/test_interruptions.py",
    "tests/pipelines/machine/",
    "tests/api/jobs/test_a_whole_job.py",
    "tests/steps/backup/",
    "tests/steps/tune/",
    "tests/steps/evaluate/",
    "tests/steps/plan/lm_eval/",
    "tests/steps/pull/",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a file's tests in one process, one after another: they share fixtures that take minutes to build.

    This hook runs first because pytest-xdist reads the groups in its own hook.
    """
    for item in items:
        if "cluster" not in item.path.parts:
            item.add_marker(pytest.mark.xdist_group(file_of(item)))
    items.sort(key=lambda item: turn_of(file_of(item)))


def file_of(item: pytest.Item) -> str:
    """Return the path of a test's file from the repository's root."""
    return item.nodeid.partition("::")[0]


def turn_of(file: str) -> int:
    """Return a file's place in `LONGEST`, or the place after all of them."""
    return next((place for place, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long the tests of each folder took."""
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = Path(report.location[0]).parent
                seconds["/".join(folder.parts[:3])] += report.duration
    terminalreporter.section("minutes by folder")
    for name, took in sorted(seconds.items(), key=lambda one: -one[1]):
        terminalreporter.write_line(f"{took / 60:6.1f} {name}")
    terminalreporter.write_line(f"{sum(seconds.values()) / 60:6.1f} in all")


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Undo the environment variables that a step sets when it runs in the test process."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True, scope="module")
def _environment_of_a_file() -> Iterator[None]:
    """Undo those that a module-scoped fixture sets."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def _volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("FINELINE_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)


@pytest.fixture
def in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps compute in fp32: in bf16, sums split differently differ by more than the tests allow.

    oneDNN in this process has read the setting before, so this process stays as fast as it is.
    """
    import torch

    torch.ops.mkldnn._is_mkldnn_bf16_supported()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights, a tokenizer trained on a few words, and ChatML's template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [" ".join(WORDS)] * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_chats(file: Path) -> Path:
    """Write forty chats to a file and return its path."""
    with file.open("w") as out:
        for number in range(40):
            asked, said = WORDS[number % 20], WORDS[(number * 7) % 20]
            turns = [("user", f"when do you have {asked} {number}"), ("assistant", f"yes we have {said} happy tails")]
            out.write(json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) + "\n")
    return file


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return write_chats(tmp_path / "chats.jsonl")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An in-process S3 store with a bucket named `chats`, and the environment variables that point to it."""
    import boto3
    import httpx2
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    client = boto3.client("s3", region_name="eu-central-1", endpoint_url=settings["AWS_ENDPOINT_URL"])
    httpx2.post(f"{settings['AWS_ENDPOINT_URL']}/moto-api/reset")
    client.create_bucket(Bucket="chats", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield client
    server.stop()
