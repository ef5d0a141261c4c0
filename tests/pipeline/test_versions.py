"""One model's versions, run after run: refused, registered and served, failed at the start, switched to. Two-layer model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steps.common import registry, serving, tracking, volumes
from tests.conftest import write_chats
from tests.pipeline.commands import fineline, free_port, result, tiny_recipe


@dataclass
class Story:
    """What each run came to, in their order, and what was there after it."""

    told: dict[str, Any] = field(default_factory=dict)
    champion: dict[str, int] = field(default_factory=dict)
    server: dict[str, serving.Server | None] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)

    def run(self, called: str, recipe: str, *changes: str) -> None:
        options = [part for change in changes for part in ("-o", change)]
        self.told[called] = done = result(fineline("run", recipe, "--json", *options))
        store = tracking.client(done["tracking_uri"])
        found = registry.version_at(store, "tiny", registry.CHAMPION)
        self.champion[called] = int(found.version) if found else 0
        self.server[called] = serving.server("tiny")
        if gateway := serving.gateway("tiny"):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "when do you have food"}]}
            answer = httpx2.post(f"{gateway.url}/chat/completions", json={**body, "max_tokens": 6}, timeout=60).json()
            self.answer[called] = answer["choices"][0]["message"]["content"]


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
        story.run("second", recipe, *lenient)
        yield story
        fineline("serving", "stop", "tiny")


def test_a_refused_candidate_is_neither_registered_nor_served_and_the_command_ends_with_3(story: Story) -> None:
    told = story.told["refused"]
    assert told["exit_code"] == 3
    assert "refused: held-out loss" in told["message"]
    assert "the gate asks 99.0%" in told["message"]
    assert "version" not in told
    assert story.champion["refused"] == 0
    assert story.server["refused"] is None


def test_a_bad_row_is_skipped_and_counted_where_the_recipe_says_so(story: Story) -> None:
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
