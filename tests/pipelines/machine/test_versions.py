"""The versions of one model, run after run: refused, served, failed at the start, rolled back. Two-layer model."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steps.common.machine import servers
from steps.common.registry import tracking, versions
from steps.common.storage import volumes
from tests.conftest import write_chats
from tests.support.commands import fineline, free_port, result, tiny_recipe
from tests.support.load import Load, load

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """The results of the runs, in order, and the state after each."""

    told: dict[str, Any] = field(default_factory=dict)
    champion: dict[str, int] = field(default_factory=dict)
    server: dict[str, servers.Server | None] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)

    load: dict[str, Load] = field(default_factory=dict)
    kept: servers.RefusedVersion | None = None

    def run(self, called: str, recipe: str, *changes: str) -> None:
        options = [part for change in changes for part in ("-o", change)]
        self.note(called, fineline("run", recipe, "--json", *options))

    def note(self, called: str, ended: subprocess.CompletedProcess[str]) -> None:
        self.told[called] = result(ended)
        store = tracking.client(self.told["refused"]["tracking_uri"])
        found = versions.version_at(store, "tiny", versions.CHAMPION)
        self.champion[called] = int(found.version) if found else 0
        self.server[called] = servers.server("tiny")
        if gateway := servers.gateway("tiny"):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "when do you have food"}]}
            answer = httpx2.post(f"{gateway.url}/chat/completions", json={**body, "max_tokens": 6}, timeout=60).json()
            self.answer[called] = answer["choices"][0]["message"]["content"]


def shuffle(weights: Path) -> None:
    """Shuffle the rows of every matrix: the weights load as before, but give other answers."""
    import torch
    from safetensors.torch import load_file, save_file

    order = torch.Generator().manual_seed(3)
    tensors = {
        name: one[torch.randperm(len(one), generator=order)].contiguous() if one.ndim == 2 else one
        for name, one in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.WEIGHTS_SETTING, str(folder / "weights"))
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        chats = write_chats(folder / "chats.jsonl")
        with chats.open("a") as file:
            file.write("{broken\n")
        recipe = tiny_recipe(folder, tiny_model, chats, epochs=4)
        always = ["data.on_bad_row=skip", "serve.enabled=true", f"serve.port={free_port()}", "serve.watch_seconds=2"]
        story = Story()
        story.run("refused", recipe, *always, "gate.better_than_base=0.99")
        story.run("first", recipe, *always)
        lenient = [*always, "gate.worse_than_champion=9", "tune.epochs=5"]
        story.run("failed server", recipe, *lenient, "serve.ready_seconds=1")
        merged = max((folder / "runs" / "merged").glob("*/model.safetensors"), key=lambda file: file.stat().st_mtime)
        good = merged.read_bytes()
        shuffle(merged)
        url = str(story.told["first"]["url"])
        with load(url, "tiny", clients=2, max_tokens=4) as story.load["broken server"]:
            story.run("broken server", recipe, *lenient)
        story.kept = servers.refused("tiny")
        merged.write_bytes(good)
        with load(url, "tiny", clients=2, max_tokens=4) as story.load["second"]:
            story.run("second", recipe, *lenient)
        with load(url, "tiny", clients=2, max_tokens=4) as story.load["back"]:
            story.note("back", fineline("rollback", "tiny", "--json"))
        yield story
        fineline("serving", "stop", "tiny")


def test_a_refused_candidate_is_neither_registered_nor_served_and_the_command_ends_with_3(story: Story) -> None:
    told = story.told["refused"]
    assert told["exit_code"] == 3
    assert "refused: held-out loss" in told["message"]
    assert "the gate requires 99.0%" in told["message"]
    assert "version" not in told
    assert story.champion["refused"] == 0
    assert story.server["refused"] is None


def test_a_bad_row_is_skipped_and_counted_if_the_recipe_says_so(story: Story) -> None:
    log = Path(story.told["refused"]["evaluation_file"]).parent / "tasks" / "prepare" / "log.txt"
    assert "left out: 1 bad" in log.read_text()


def test_an_accepted_candidate_is_champion_and_served(story: Story) -> None:
    told, server = story.told["first"], story.server["first"]
    assert (told["exit_code"], told["version"], told["new_version"]) == (0, 1, True)
    assert story.champion["first"] == 1
    assert server is not None
    assert server.version == 1
    assert story.answer["first"]


def test_a_new_server_that_fails_leaves_the_old_one_and_the_alias(story: Story) -> None:
    told = story.told["failed server"]
    assert told["exit_code"] == 3
    assert "the model server was not ready in 1 s" in told["message"]
    assert told["version"] == 2
    assert story.champion["failed server"] == 1
    assert story.server["failed server"] == story.server["first"]
    assert story.answer["failed server"] == story.answer["first"]


def test_a_second_version_is_compared_with_the_champion_and_takes_its_place_at_the_same_address(story: Story) -> None:
    told, server, before = story.told["second"], story.server["second"], story.server["first"]
    assert (told["exit_code"], told["version"], told["new_version"]) == (0, 2, False)
    assert told["evaluation"]["champion_version"] == 1
    assert told["evaluation"]["scores"]["champion"] == story.told["first"]["evaluation"]["scores"]["candidate"]
    assert story.champion["second"] == 2
    assert told["url"] == story.told["first"]["url"]
    assert server is not None
    assert before is not None
    assert server.version == 2
    assert not before.process.alive()
    assert story.answer["second"]


def test_a_version_that_did_well_offline_but_is_broken_when_served_gets_no_traffic_and_no_request_fails(
    story: Story,
) -> None:
    told, met = story.told["broken server"], story.load["broken server"]
    assert told["exit_code"] == 3
    assert ", below serve.answers_alike 0.8; " in told["message"]
    assert told["evaluation"]["passed"]
    assert met.failures == []
    assert met.answers.keys() == {"1"}
    assert story.champion["broken server"] == 1
    assert story.server["broken server"] == story.server["first"]
    assert story.kept is not None
    assert f"rollout: {story.kept.reason}" == told["message"]
    assert "serve_model tiny" in Path(story.kept.folder, "command.txt").read_text()
    assert servers.refused("tiny") is None  # the next rollout removed it


def test_the_record_of_a_rollout_is_in_the_runs_folder_and_a_tag_of_the_version(story: Story) -> None:
    folder = Path(story.told["second"]["evaluation_file"]).parent
    told = json.loads((folder / "rollout.json").read_text())
    assert (told["version"], told["old_version"], told["strategy"], told["refused"]) == (2, 1, "blue-green", "")
    assert told["gate"]["passed"]
    assert told["gate"]["asked"]
    assert all(one["old"] is not None for one in told["gate"]["asked"])
    assert told["watched"]["failures"] == 0
    store = tracking.client(story.told["refused"]["tracking_uri"])
    assert store.get_model_version("tiny", "2").tags["fineline.rollout"].startswith("served since 20")


def test_while_a_good_version_takes_over_no_request_fails(story: Story) -> None:
    assert story.load["second"].failures == []
    assert story.load["second"].answers.keys() == {"1", "2"}


def test_one_command_rolls_back_and_no_request_fails(story: Story) -> None:
    told, met, server = story.told["back"], story.load["back"], story.server["back"]
    assert (told["exit_code"], told["version"], told["url"]) == (0, 1, story.told["first"]["url"])
    assert met.failures == []
    assert met.answers.keys() == {"1", "2"}
    assert story.champion["back"] == 1
    assert server is not None
    assert server.version == 1
    assert story.answer["back"] == story.answer["first"]
