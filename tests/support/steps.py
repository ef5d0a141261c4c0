"""Run a step as a separate process with the permissions of its service account, as in its pod."""

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from presets.gpu_preset import gpu_presets
from presets.ladder import Workload, candidates
from presets.model_preset import find
from steps.common.handover.resolved import Resolved, Rung
from steps.plan.quote.to_buy import rung
from tests.support.kubectl import kubectl


@dataclass(frozen=True)
class Ended:
    """The exit code, outputs and log of a step that ended."""

    code: int
    outputs: dict[str, str]
    log: str

    @property
    def error(self) -> str:
        """The step's one-line error."""
        (line,) = [line for line in self.log.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")


class Account:
    """A service account and the settings that its steps get."""

    def __init__(self, folder: Path, namespace: str, account: str, settings: dict[str, str]) -> None:
        token = kubectl("create", "token", account, "-n", namespace, "--duration=2h").stdout.strip()
        config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify").stdout)
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = namespace
        self.folder = folder
        self.kubeconfig = folder / f"{account}.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self.settings = settings

    def begin(self, entrypoint: str, inputs: dict[str, str]) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a step. Return its process and the folder of its outputs and log."""
        place = self.folder / uuid.uuid4().hex[:8]
        place.mkdir()
        parameters = [{"name": name, "value": value} for name, value in inputs.items()]
        (place / "inputs.json").write_text(json.dumps(parameters))
        command = [sys.executable, "-m", "hera.workflows.runner", "-e", entrypoint, str(place / "inputs.json")]
        own = {"KUBECONFIG": str(self.kubeconfig), "hera__outputs_directory": str(place / "outputs"), **self.settings}
        with (place / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log)
        return process, place

    def run(self, entrypoint: str, inputs: dict[str, str], seconds: float = 300) -> Ended:
        """Run a step and wait for it to end."""
        process, place = self.begin(entrypoint, inputs)
        process.wait(seconds)
        return ended(process, place)


def ended(process: subprocess.Popen[bytes], place: Path) -> Ended:
    """Return the result of a step that ended."""
    found = place / "outputs" / "parameters"
    outputs = {file.name: file.read_text() for file in found.iterdir()} if found.is_dir() else {}
    return Ended(process.returncode, outputs, (place / "log.txt").read_text())


def objects(kind: str, selector: str = "") -> list[dict[str, Any]]:
    """Return the objects of a cluster-scoped kind."""
    options = ["-l", selector] if selector else []
    found: list[dict[str, Any]] = json.loads(kubectl("get", kind, "-o", "json", *options).stdout)["items"]
    return found


def rungs(*types: str, capacity: Any = "on-demand", cloud: Any = "aws") -> list[Rung]:
    """Return a rung for each instance type, in the given order."""
    preset, _ = find("qwen2.5-0.5b-instruct")
    job = Workload(preset.architecture, "qlora", 8, 256, 2048, 100_000, 10_000, 2, 16, 0)
    known = {one.instance_type: one for one in gpu_presets(cloud)}
    found = [candidates(job, [known[name]], [capacity])[0] for name in types]
    return [rung(one, job).model_copy(update={"host_bytes": 4 << 30}) for one in found]


def to_buy(
    planned: Resolved, run: str, ladder: list[Rung], provider: str = "karpenter", **compute: Any
) -> dict[str, str]:
    """Return provision's inputs for a run with the given ladder."""
    recipe = planned.recipe.model_copy(update={"compute": planned.recipe.compute.model_copy(update=compute)})
    quote = planned.quote.model_copy(update={"ladder": ladder, "provider": provider, "cloud": "aws"})
    resolved = planned.model_copy(update={"run": run, "recipe": recipe, "quote": quote})
    return {"resolved": resolved.model_dump_json()}
