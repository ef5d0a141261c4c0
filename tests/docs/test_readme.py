"""The README's commands are ones that there are; what they do is the other tests' matter."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from pipelines.cluster.doctor.secret_settings import SECRETS
from pipelines.command import parser
from pipelines.workflows.finetune import build
from steps.common.runtime.settings import (
    CLOUD_SETTING,
    GPU_PRESETS_SETTING,
    KARPENTER_METRICS_SETTING,
    NODE_CLASS_SETTING,
)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHELL = [line.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("uv run fineline")])
def test_each_fineline_command_is_one(line: str) -> None:
    words = shlex.split(line, comments=True)
    parser().parse_args(words[3:])


def test_each_command_that_is_named_in_a_table_is_one() -> None:
    named = re.findall(r"`fineline ([a-z]+)", README)
    assert set(named) <= {
        "run",
        "plan",
        "runs",
        "presets",
        "render",
        "status",
        "schedule",
        "serving",
        "doctor",
        "pull",
        "weights",
    }
    for name in named:
        parser().parse_args([name, *(["MODEL"] if name == "pull" else [])])


def test_each_file_that_is_named_is_there() -> None:
    for overlay in ("kind", "aks", "eks", "gke"):
        assert (ROOT / "argo" / "overlays" / overlay / "kustomization.yaml").is_file()
    assert "-k argo/overlays/kind" in README
    assert "-f images/Dockerfile" in README
    assert (ROOT / "images" / "Dockerfile").is_file()


def test_each_parameter_of_the_argo_command_is_one_of_the_template() -> None:
    (line,) = [line for line in SHELL if line.startswith("argo submit")]
    known = {p["name"] for p in build().to_dict()["spec"]["arguments"]["parameters"]}
    assert set(re.findall(r"-p ([a-z_]+)=", line)) <= known
    assert f"workflowtemplate/{build().name}" in line


def test_each_secret_that_the_doctor_looks_for_is_told_of_with_its_keys() -> None:
    for known in SECRETS:
        line = next(line for line in SHELL if f"secret generic fineline-{known.suffix} " in line)
        assert set(re.findall(r"--from-literal=(\w+)=", line)) == set(known.keys)


def test_the_published_peaks_that_the_memory_arithmetic_is_compared_with_are_counted_as_they_are() -> None:
    rows = yaml.safe_load((ROOT / "tests" / "presets" / "published_memory.yaml").read_text())["rows"]
    claimed = [row for row in rows if row["claimed"]]
    assert f"Against {len(claimed)} peaks of GPUs" in README
    assert max(abs(row["error"]) for row in claimed) <= 4
    assert len(rows) - len(claimed) == 2


def test_each_setting_of_the_nodes_is_told_of() -> None:
    for name in (CLOUD_SETTING, GPU_PRESETS_SETTING, KARPENTER_METRICS_SETTING, NODE_CLASS_SETTING):
        assert name in README
