"""What a retraining's first step says of a champion, and going back to an earlier one. Two-layer model."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recipes.reader import load
from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.registry import tracking, versions, withdrawn
from steps.common.runtime.errors import RefusedError, UserError
from steps.common.storage import volumes
from steps.plan.check import CheckInput, CheckOutput, check
from steps.restore.step import RestoreInput, RestoreOutput, restore
from tests.conftest import write_chats
from tests.support.commands import tiny_recipe
from tests.support.versions import make_version


@dataclass
class Trained:
    """Two versions of a model, each champion in its turn."""

    folder: Path
    recipe: str
    changed: str  # the recipe of the second version
    chats: Path
    store: Any
    before: CheckOutput
    after_one: CheckOutput


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("retraining")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.WEIGHTS_SETTING, str(folder / "weights"))
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        chats = write_chats(folder / "chats.jsonl")
        recipe = tiny_recipe(folder, tiny_model, chats, epochs=2)
        before = check(CheckInput(recipe=recipe))
        assert make_version(recipe, "first") == 1
        after_one = check(CheckInput(recipe=recipe))
        changed = load(recipe, {"tune.epochs": "3", "gate.worse_than_champion": "9"}).model_dump_json()
        assert make_version(changed, "second") == 2
        yield Trained(folder, recipe, changed, chats, tracking.client(tracking.default_uri()), before, after_one)


@pytest.fixture(autouse=True)
def _same_folders(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(trained.folder / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(trained.folder / "runs"))


def test_without_a_champion_there_is_something_to_learn(trained: Trained) -> None:
    assert trained.before.changed
    assert trained.before.verdict == "tiny has no champion yet"


def test_the_same_data_base_and_recipe_are_nothing_new(trained: Trained) -> None:
    assert not trained.after_one.changed
    assert trained.after_one.verdict == "nothing new: version 1 has the same data, base and recipe"


def test_another_recipe_is_something_new(trained: Trained) -> None:
    told = check(CheckInput(recipe=trained.recipe))
    assert told.changed
    assert told.verdict == "changed since version 2: recipe or held-out rows"


def test_where_and_how_it_is_served_is_nothing_new(trained: Trained, tmp_path: Path) -> None:
    text = Path(trained.recipe).read_text().replace("epochs: 2", "epochs: 3")
    same = tmp_path / "same.yaml"
    same.write_text(text.replace("better_than_base: 0.0", "better_than_base: 0.0\n  worse_than_champion: 9"))
    assert not check(CheckInput(recipe=str(same))).changed
    same.write_text(same.read_text().replace("enabled: false", "enabled: false\n  port: 9999"))
    assert not check(CheckInput(recipe=str(same))).changed
    copied = tmp_path / "copied.jsonl"
    copied.write_bytes(trained.chats.read_bytes())
    assert not check(CheckInput(recipe=str(same), data=str(copied))).changed


def test_other_rows_are_something_new_and_force_wants_it_all_the_same(trained: Trained, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text(trained.chats.read_text().replace("happy tails", "happy paws"))
    told = check(CheckInput(recipe=trained.recipe, data=str(more)))
    assert told.changed
    assert told.verdict == "changed since version 2: data"
    forced = check(CheckInput(recipe=trained.recipe, epochs="3", force="true"))
    assert forced.changed


def test_back_is_to_the_champion_before(trained: Trained) -> None:
    back: RestoreOutput = restore(RestoreInput(name="tiny"))
    assert back.version == 1
    version = trained.store.get_model_version("tiny", "1")
    assert adapter_sha256(Path(back.adapter_folder)) == version.tags["fineline.adapter_sha256"]
    assert back.resolved.recipe.tune.epochs == 2
    assert Path(back.report).is_file()
    versions.make_champion(trained.store, "tiny", 1)
    assert restore(RestoreInput(name="tiny")).version == 2
    versions.make_champion(trained.store, "tiny", 2)


def test_back_is_within_the_registry_that_was_asked_even_if_it_has_been_moved(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved.db"
    shutil.copyfile(trained.folder / "runs" / "mlflow.db", moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}")
    back: RestoreOutput = restore(RestoreInput(name="tiny", version="1"))
    assert back.resolved.tracking.uri == f"sqlite:///{moved}"


@pytest.fixture
def taken_back(trained: Trained) -> Iterator[str]:
    """Version 2, withdrawn; its line."""
    withdrawn.withdraw(trained.store, "tiny", 2, "ada", "invents\nopening hours")
    versions.make_champion(trained.store, "tiny", 1)
    yield withdrawn.in_words(trained.store.get_model_version("tiny", "2"))
    withdrawn.readmit(trained.store, "tiny", 2)
    versions.make_champion(trained.store, "tiny", 2)


def test_a_withdrawn_version_says_by_whom_when_and_why(taken_back: str) -> None:
    again = "`fineline rollback tiny --version 2 --force` serves it again"
    told = rf"tiny version 2 was withdrawn by ada on \d{{4}}-\d\d-\d\d \d\d:\d\d UTC: invents opening hours; {again}"
    assert re.fullmatch(told, taken_back)


def test_a_retraining_that_would_make_a_withdrawn_version_again_finds_nothing_new(
    trained: Trained, taken_back: str
) -> None:
    for force in ("false", "true"):
        told = check(CheckInput(recipe=trained.changed, force=force))
        assert (told.changed, told.verdict) == (False, f"nothing new: {taken_back}")


def test_a_run_that_makes_a_withdrawn_adapter_is_refused_and_moves_no_alias(trained: Trained, taken_back: str) -> None:
    before = versions.version_at(trained.store, "tiny", versions.CANDIDATE)
    with pytest.raises(RefusedError, match="was withdrawn by ada"):
        make_version(trained.changed, "again")
    after = versions.version_at(trained.store, "tiny", versions.CANDIDATE)
    assert (before and int(before.version)) == (after and int(after.version))
    champion = versions.version_at(trained.store, "tiny", versions.CHAMPION)
    assert champion is not None
    assert int(champion.version) == 1


def test_nothing_goes_back_to_a_withdrawn_version_unless_it_is_named_and_forced(
    trained: Trained, taken_back: str
) -> None:
    with pytest.raises(UserError, match="there is no previous champion"):
        restore(RestoreInput(name="tiny"))
    with pytest.raises(UserError, match=re.escape(taken_back)):
        restore(RestoreInput(name="tiny", version="2"))
    assert restore(RestoreInput(name="tiny", version="2", force="true")).version == 2


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("tiny", "7", "tiny has no version 7; its versions are 1, 2"),
        ("tiny", "first", "version: must be a number, not 'first'"),
        ("other", "1", "no model of that name is registered"),
        ("other", "", "there is no previous champion"),
    ],
)
def test_what_is_not_there_cannot_be_gone_back_to(name: str, version: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        restore(RestoreInput(name=name, version=version))
