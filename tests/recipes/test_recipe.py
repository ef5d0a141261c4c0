"""The recipe reader: accepted recipes, and a one-line error for each mistake."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.reader import RecipeError, load, override_of, shipped
from recipes.unique_keys import DoubleKeyError, UniqueKeyLoader

DATA = "name: shop\ndata: {train: %s}\n"
GOOD = "name: shop\ndata: {train: chats.jsonl}\n"


def write(folder: Path, text: str) -> str:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return str(file)


def test_relative_data_paths_start_at_the_recipes_folder(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, GOOD))
    assert recipe.data.train == str(tmp_path / "chats.jsonl")


LIST = "[a.jsonl, {source: 'more/*.csv', weight: 2}, {source: [b, 's3://b/c']}]"


def test_data_may_be_a_list_in_the_file_and_by_hand(tmp_path: Path) -> None:
    def placed(folder: Path) -> list[Any]:
        return [
            str(folder / "a.jsonl"),
            {"source": str(folder / "more/*.csv"), "weight": 2},
            {"source": [str(folder / "b"), "s3://b/c"]},
        ]

    in_file = load(write(tmp_path, GOOD.replace("chats.jsonl", LIST)))
    assert in_file.data.model_dump(exclude_defaults=True) == {"train": placed(tmp_path)}
    assert [source.places for source in in_file.data.sources][2] == [str(tmp_path / "b"), "s3://b/c"]
    by_hand = load(write(tmp_path, GOOD), {"data.train": LIST, "data.validation": "[x.jsonl, y.jsonl]"})
    assert by_hand.data.model_dump(exclude_defaults=True)["train"] == placed(Path.cwd())
    assert by_hand.data.held_out_places == [str(Path.cwd() / name) for name in ("x.jsonl", "y.jsonl")]
    assert load(write(tmp_path, GOOD), {"data.train": "[0-9].jsonl"}).data.train == str(Path.cwd() / "[0-9].jsonl")
    assert load(in_file.model_dump_json()) == in_file


def test_a_tasks_file_starts_there_too_and_the_held_out_rows_have_none(tmp_path: Path) -> None:
    tasks = "evaluate: {tasks: [{data: asked.jsonl, metric: exact}, {metric: rouge_l, at_least: 0.4}]}"
    asked, held_out = load(write(tmp_path, f"{GOOD}{tasks}")).evaluate.tasks
    assert (asked.places, held_out.places) == ([str(tmp_path / "asked.jsonl")], [])
    by_hand = load(write(tmp_path, GOOD), {"evaluate.tasks": "[{data: asked.jsonl, metric: contains}]"})
    assert by_hand.evaluate.tasks[0].data == str(Path.cwd() / "asked.jsonl")


def test_a_merge_may_be_overridden(tmp_path: Path) -> None:
    tune = load(write(tmp_path, GOOD + "tune: {<<: {rank: 2, epochs: 1}, epochs: 3}\n")).tune
    assert (tune.rank, tune.epochs) == (2, 3)


def test_a_merge_of_what_has_a_merge_may_be_overridden_too() -> None:
    text = "a: &a {k: 1}\nx: {y: {z: &b {<<: *a, k: 2}}}\nd: {<<: *b}\n"
    assert yaml.load(text, UniqueKeyLoader)["d"] == {"k": 2}
    several = yaml.load("a: &a {kk: 1}\nb: &b {kk: 2, l: 3}\nc: {<<: [*a, *b], m: 4}\n", UniqueKeyLoader)
    assert several["c"] == {"kk": 1, "l": 3, "m": 4}
    for twice in ("e: {k: 1, k: 2}", "e: [{f: {k: 1, k: 2}}]", "e: {<<: {k: 1, k: 2}}"):
        with pytest.raises(DoubleKeyError, match="the key 'k' is given twice") as refused:
            yaml.load(text + twice, UniqueKeyLoader)
        assert refused.value.line == 4


def test_overrides_win_and_take_every_kind_of_value(tmp_path: Path) -> None:
    overrides = dict(
        map(override_of, ["tune.epochs=2", "tune.learning_rate=1e-3", "tune.method=lora", "tune.targets=[q_proj]"])
    )
    tune = load(write(tmp_path, GOOD), overrides).tune
    assert (tune.epochs, tune.learning_rate, tune.method, tune.targets) == (2.0, 0.001, "lora", ["q_proj"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD + "tune: {epoch: 2}", "tune.epoch: unknown key; did you mean 'epochs'?"),
        (GOOD + "tunes: {}", "tunes: unknown key; did you mean 'tune'?"),
        (GOOD + "tune: {epochs: -1}", "tune.epochs: input should be greater than 0, not -1"),
        (GOOD + "compute: {max_hours: .inf}", "compute.max_hours: input should be a finite number, not inf"),
        (GOOD + "tune: {method: qlara}", "tune.method: input should be 'qlora' or 'lora', not 'qlara'"),
        (
            GOOD + "evaluate: {questions: [{asks: x}]}",
            "evaluate.questions.0.asks: unknown key; did you mean 'ask'? (and 1 more)",
        ),
        (GOOD + "evaluate: {tasks: [{metric: bleu}]}", "evaluate.tasks.0.metric: input should be 'exact', 'contains'"),
        (
            GOOD + "evaluate: {tasks: [{metric: exact}, {metric: exact, rows: 5}]}",
            "evaluate: tasks: heldout is listed twice with the metric exact",
        ),
        (GOOD + "tune: {epochs: two}", "tune.epochs: input should be a number, not 'two'"),
        (GOOD + "serve: {port: 80.5}", "serve.port: input should be a whole number, not 80.5"),
        (GOOD + "tune: {epochs: 1, rank: 2, epochs: 2}", ":3: the key 'epochs' is given twice"),
        (GOOD + "model: x\ntune:\n  rank: 2\nmodel: y\n", ":6: the key 'model' is given twice, first in line 3"),
        (DATA % "[a, {source: b, weight: 0}]", "data.train.1.weight: input should be greater than 0, not 0"),
        (DATA % "[{sources: b}]", "data.train.0.sources: unknown key; did you mean 'source'? (and 1 more)"),
        (DATA % "[{source: b, weigth: 2}]", "data.train.0.weigth: unknown key; did you mean 'weight'?"),
        (DATA % "[{source: b, weight: 1, share: 1}]", "data.train.0: set weight or share, not both"),
        (DATA % "[a, {source: b, share: 0.5}]", "data: train.0: has no share, and another source has one"),
        (DATA % "[{source: a, share: 0.5}, {source: b, share: 0.6}]", "data: train: the shares have the sum 1.1"),
        (DATA % "[a.jsonl, a.jsonl]", "a.jsonl is listed twice; to see its rows more often, give it a weight"),
        (DATA % "[]", "data.train: list should have at least 1 item"),
        (DATA % "''", "data.train: string should have at least 1 character"),
        (DATA % "{source: a}", "data.train: input should be a path or an address, or a list of them"),
        (
            DATA % "[[a]]",
            "data.train.0: input should be a path or an address, or a mapping with source and weight or share",
        ),
        (DATA % "a, validation: [{source: a, weight: 2}]", "data.validation.0: input should be text"),
        (GOOD + "tune: 3", "tune: input should be a mapping of keys to values, not 3"),
        ("name: shop\n", "data: is missing"),
        ("name: Shop!\ndata: {train: x}", "name: string should match pattern"),
        ("- a\n- b\n", "a recipe is a mapping"),
        ("name: [\n", ":2:1: not YAML"),
        (GOOD + "evaluate: {questions: [{ask: 'what is {{x}}?'}]}", "a recipe may not contain '{{'"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path: Path, text: str, line: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load(file)
    assert str(caught.value).startswith(file)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("tune.epochs=two", "-o tune.epochs: input should be a number, not 'two'"),
        ("data.train=[a, {source: b, weight: x}]", "-o data.train.1.weight: input should be a number, not 'x'"),
        ("tune={rank: 1, rank: 2}", "-o tune: the key 'rank' is given twice"),
        ("tune.epoch=2", "-o tune.epoch: unknown key; did you mean 'epochs'?"),
        ("tune={epochs: two}", "-o tune.epochs: input should be a number, not 'two'"),
    ],
)
def test_a_mistake_in_an_override_is_not_blamed_on_the_file(tmp_path: Path, override: str, line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(write(tmp_path, GOOD), dict([override_of(override)]))
    assert str(caught.value) == line


def test_a_mistake_in_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD + "tune: {epochs: two}")
    with pytest.raises(RecipeError) as caught:
        load(file, {"tune.rank": "8"})
    assert str(caught.value) == f"{file}: tune.epochs: input should be a number, not 'two'"


def test_an_unknown_recipe_names_those_that_ship() -> None:
    with pytest.raises(RecipeError, match="did you mean 'pet-store'"):
        load("pet-stor")


def test_every_recipe_that_ships_is_valid_and_has_its_data() -> None:
    assert "pet-store" in shipped()
    for name in shipped():
        recipe = load(name)
        assert recipe.name == name
        assert all(Path(place).is_file() for source in recipe.data.sources for place in source.places)


def test_a_recipe_travels_as_text(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, GOOD), {"tune.rank": "8"})
    assert load(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("text", ["tune.epochs", "=2", ".=2", "tune..epochs=2", ".epochs=2"])
def test_an_override_without_a_whole_key_is_refused_as_such(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^-o .*: write it as KEY=VALUE"):
        override_of(text)
