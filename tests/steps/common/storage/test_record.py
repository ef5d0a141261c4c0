"""Records: every one that an earlier release stored is read, what is not known is ignored, a later one is refused in a line."""

import ast
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from pipelines.machine.run_record import Run
from pipelines.shown.task_state import TaskState
from steps.common.adapter.adapter_files import AdapterBase
from steps.common.handover.report import EvaluationReport, PreparedRecord, TuningRecord
from steps.common.handover.resolved import Resolved
from steps.common.lm_eval.pack import PackedRequest
from steps.common.machine.servers import Gateway, Process, RefusedVersion, Server
from steps.common.nodes.ledger import Purchase
from steps.common.runtime.errors import UserError
from steps.common.storage.record import Record, Upgrade
from steps.common.weights.fetch_progress import FetchProgress
from steps.common.weights.store import Manifest
from steps.evaluate.scores.score import Score
from steps.export.export_folder import ExportRecord
from steps.plan.data.local_copy import LocalCopy
from steps.provision.attempt.attempts import Attempts
from steps.rollout.order import RolloutRecord
from steps.rollout.vllm.base_objects import found_server
from steps.tune.loop.micro_batch_plan import MicroBatchPlan
from tests.support.golden import RELEASES, golden
from tests.support.kubectl import ROOT

STORED: dict[str, type[Record]] = {
    "version/resolved.json": Resolved,
    "version/report.json": EvaluationReport,
    "records/prepared_report.json": PreparedRecord,
    "records/tuning_report.json": TuningRecord,
    "version/peft/base.json": AdapterBase,
    "records/run.json": Run,
    "records/node.json": TaskState,
    "records/rollout.json": RolloutRecord,
    "records/gateway.json": Gateway,
    "records/server.json": Server,
    "records/process.json": Process,
    "records/refused.json": RefusedVersion,
    "records/purchase.json": Purchase,
    "records/attempts.json": Attempts,
    "records/cut.json": MicroBatchPlan,
    "records/export.json": ExportRecord,
    "records/score.json": Score,
    "records/manifest.json": Manifest,
    "records/asked.json": PackedRequest,
    "records/remote_data.json": LocalCopy,
    "records/progress.json": FetchProgress,
}
# Read in the process, or by a process, that wrote them.
NOT_STORED = {
    "steps/plan/lm_eval/trial.py",
    "steps/rollout/gateway/__main__.py",
    "steps/tune/worker.py",
}


def values(content: Any) -> list[Any]:
    """Return the numbers and texts in JSON content, without its keys."""
    if isinstance(content, dict):
        return [found for one in content.values() for found in values(one)]
    if isinstance(content, list):
        return [found for one in content for found in values(one)]
    return [content]


@pytest.mark.parametrize("release", RELEASES, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", STORED)
def test_what_a_release_has_stored_is_read_whole(release: Path, name: str) -> None:
    text = golden(name, release.name).read_text()
    read = STORED[name].read(text, name)
    after = values(json.loads(read.model_dump_json()))
    lost = [value for value in values(json.loads(text)) if value not in after]
    # The fixed port that 0.1.0 filled in, and a word that has another name now.
    assert [value for value in lost if value not in (8360, "asked")] == []
    assert read == STORED[name].read(read.model_dump_json(), name)


# Dictionaries whose keys are data.
OPEN = {"minutes", "scores", "rows", "accuracy", "means", "packages", "parameters", "wanted", "written"}
OPEN |= {"template_arguments", "ignored"}


def with_more(content: Any) -> Any:
    """Add a key to every part."""
    if isinstance(content, list):
        return [with_more(one) for one in content]
    if not isinstance(content, dict):
        return content
    return {key: value if key in OPEN else with_more(value) for key, value in content.items()} | {"later": 1}


@pytest.mark.parametrize("name", STORED)
def test_keys_that_a_later_release_adds_are_ignored_at_every_depth(name: str) -> None:
    before = STORED[name].read(golden(name).read_text(), name)
    after = STORED[name].read(json.dumps(with_more(json.loads(before.model_dump_json()))), name)
    assert after.model_dump_json() == before.model_dump_json()


@pytest.mark.parametrize("name", STORED)
def test_a_record_of_a_later_release_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError) as raised:
        STORED[name].read('{"schema_version": 99}', "the file")
    current = STORED[name].model_fields["schema_version"].default
    assert str(raised.value) == (
        f"the file: written by a later release: it has schema version 99, and this release reads up to {current}; upgrade "
        "Fineline"
    )


def test_a_base_server_of_0_1_0_is_found_and_keeps_its_name() -> None:
    stored = json.loads(golden("records/base_server.json").read_text())
    server = found_server(stored["annotation"], stored["name"])
    assert server.name == stored["name"]
    assert server.served.arguments == ["--dtype", "bfloat16"]


class Shelf(BaseModel):
    """A part that refuses what it does not know, as a recipe's parts do."""

    model_config = ConfigDict(extra="forbid")

    height_cm: int


class Cupboard(Record):
    """A record that has been changed twice."""

    upgrades: ClassVar[dict[int, Upgrade]] = {
        0: lambda content: {"name": content["called"], "shelves": content.get("boards", [])},
        1: lambda content: {**content, "shelves": [{"height_cm": one["inches"] * 2.54} for one in content["shelves"]]},
    }

    schema_version: int = 2
    name: str
    shelves: list[Shelf] = []


def test_a_record_goes_through_each_upgrade_in_order() -> None:
    first = '{"called": "oak", "boards": [{"inches": 50}]}'
    second = '{"schema_version": 1, "name": "oak", "shelves": [{"inches": 50, "colour": "red"}], "weight": 3}'
    third = '{"schema_version": 2, "name": "oak", "shelves": [{"height_cm": 127, "colour": "red"}]}'
    wanted = Cupboard(name="oak", shelves=[Shelf(height_cm=127)])
    assert [Cupboard.read(text, "it") for text in (first, second, third)] == [wanted] * 3
    assert json.loads(wanted.model_dump_json())["schema_version"] == 2


@pytest.mark.parametrize("text", ["[]", "3", '{"schema_version": "one"}', "{", '{"schema_version": 2}'])
def test_what_is_no_record_is_a_value_error(text: str) -> None:
    class Named(Record):
        schema_version: int = 2
        name: str

    with pytest.raises(ValueError):
        Named.read(text, "it")


def test_whatever_is_stored_is_a_record() -> None:
    """A model that reads JSON by itself has no schema number; a record that does so skips its upgrades."""
    found = []
    for package in ("steps", "pipelines"):
        for file in sorted((ROOT / package).rglob("*.py")):
            calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
            if any(isinstance(call, ast.Attribute) and call.attr == "model_validate_json" for call in calls):
                found.append(file.relative_to(ROOT).as_posix())
    assert set(found) <= NOT_STORED
