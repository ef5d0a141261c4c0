"""The mistakes that a person makes: one line, exit code 2, and nothing left behind."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from steps.common.storage import volumes
from tests.support.commands import fineline, free_port, tiny_recipe

ROW = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, chats: Path) -> str:
    return tiny_recipe(tmp_path, tiny_model, chats)


def refused(*arguments: str) -> str:
    """Run, expect a refusal, and return its line."""
    done = fineline("run", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert not volumes.runs().exists()
    assert not volumes.weights().exists()
    return lines[0]


def test_a_typo(recipe: str) -> None:
    assert "tune.epoch: unknown key; did you mean 'epochs'?" in refused(recipe, "-o", "tune.epoch=2")


def test_an_override_without_a_value(recipe: str) -> None:
    assert "write it as KEY=VALUE" in refused(recipe, "-o", "tune.epochs")


def test_a_missing_file(recipe: str) -> None:
    assert "nowhere.jsonl: no such data file" in refused(recipe, "-o", "data.train=nowhere.jsonl")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (ROW * 3 + '{"messages": [\n', ":4: not JSON at column 15"),
        ("", "is empty"),
        (ROW, "has one row; at least two are needed"),
        (ROW + '{"question": "x"}\n', ":2: has the columns question"),
    ],
)
def test_a_file_that_cannot_be_learnt_from(recipe: str, tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    printed = refused(recipe, "-o", f"data.train={tmp_path / 'bad.jsonl'}")
    assert "bad.jsonl" in printed
    assert line in printed


def test_an_unknown_model(recipe: str) -> None:
    assert "did you mean 'smollm2-135m-instruct'?" in refused(recipe, "-o", "model=smollm2-135m")


def test_a_hub_out_of_reach(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    ended = fineline("run", recipe, "-o", "model=hf://org/tiny")
    assert ended.returncode == 75
    assert "model hf://org/tiny at http://127.0.0.1:" in ended.stderr.splitlines()[-1]
    assert "could not be read in 5 attempts" in ended.stderr.splitlines()[-1]


def test_a_port_in_use(recipe: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        printed = refused(recipe, "-o", "serve.enabled=true", "-o", f"serve.port={port}")
    assert f"serve.port: {port} is in use by another program" in printed


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"FINELINE_COMPUTE": "slurm"}, "FINELINE_COMPUTE is 'slurm'; choose one of karpenter, compute-class, nodes"),
        ({"FINELINE_COMPUTE": "karpenter", "FINELINE_ONE_NODE": "true"}, "use a StorageClass with ReadWriteMany"),
        (
            {"FINELINE_COMPUTE": "compute-class", "FINELINE_GPU_PRESETS": "/nowhere.csv"},
            "FINELINE_GPU_PRESETS: /nowhere.csv",
        ),
    ],
)
def test_settings_that_no_run_could_have_nodes_by(
    recipe: str, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], line: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = fineline("plan", recipe)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr.strip()
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_run() -> None:
    done = fineline("run", "--resume", "yesterday")
    assert (done.returncode, done.stderr) == (
        2,
        "fineline: no run 'yesterday'; there are no runs yet ('fineline runs' lists all runs)\n",
    )


def test_the_command_to_type_next_is_as_this_one_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fineline("runs").stdout == "no runs yet; start one with: fineline run\n"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert fineline("runs").stdout == "no runs yet; start one with: uv run fineline run\n"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_no_disk_space_left(recipe: str, full_disk: Path) -> None:
    done = fineline("run", recipe, environment={"FINELINE_RUNS": str(full_disk / "runs")})
    assert done.returncode == 2
    assert "the run writes" in done.stderr
    assert "GiB are free; free some" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(full_disk.iterdir())
