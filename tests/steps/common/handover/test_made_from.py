"""A digest of settings: what a later release adds or changes by default makes no version anew; what is set does."""

import json

import pytest

from recipes.recipe import Recipe
from recipes.tuning import Tune
from steps.common.handover.covered_settings import covered_settings
from steps.common.handover.made_from import made_from
from steps.common.handover.resolved import DataFile, DataSource, Resolved, ResolvedChat, ResolvedData
from steps.prepare.step import rows_digest
from steps.tune.step import tuning_key
from tests.support.golden import golden


@pytest.fixture
def stored() -> Resolved:
    return Resolved.read(golden("version/resolved.json").read_text(), "resolved.json")


def with_recipe(resolved: Resolved, recipe: Recipe) -> Resolved:
    return resolved.model_copy(update={"recipe": recipe})


class LaterTune(Tune):
    """The settings of a later release: two keys more, and another default."""

    warmth: float = 32
    layers: list[str] = []
    epochs: float = 3.0


class LaterRecipe(Recipe):
    """A later release's recipe."""

    tune: LaterTune = LaterTune()


def test_a_version_of_0_1_0_counts_as_made_from_the_same(stored: Resolved) -> None:
    tags = json.loads(golden("version_tags.json").read_text())
    assert made_from(stored) == tags["fineline.made_from"]


def test_results_that_0_1_0_has_left_are_found_by_their_keys(stored: Resolved) -> None:
    tags = json.loads(golden("version_tags.json").read_text())
    assert (
        rows_digest(stored) != tags["fineline.rows_digest"]
    )  # those rows are JSON lines, which `tune` no longer reads
    assert tuning_key(stored, tags["fineline.rows_digest"]).startswith("2b8495f5c31317fd")  # as its folder was called
    later = with_recipe(stored, LaterRecipe.model_validate(stored.recipe.model_dump(mode="json", exclude_unset=True)))
    assert rows_digest(later) == rows_digest(stored)
    assert tuning_key(later, "rows") == tuning_key(stored, "rows")


def test_a_key_that_a_later_release_adds_trains_nothing_again(stored: Resolved) -> None:
    given = stored.recipe.model_dump(mode="json", exclude_unset=True)
    later = LaterRecipe.model_validate(given)
    assert later.tune.warmth == 32
    assert made_from(with_recipe(stored, later)) == made_from(stored)
    for key, value in (("warmth", 31), ("layers", ["q"])):
        changed = LaterRecipe.model_validate({**given, "tune": {**given["tune"], key: value}})
        assert made_from(with_recipe(stored, changed)) != made_from(stored)


def test_a_default_that_a_later_release_changes_trains_nothing_again(stored: Resolved) -> None:
    given = {"name": "tiny", "data": {"train": "/rows.jsonl"}}
    now, later = Recipe.model_validate(given), LaterRecipe.model_validate(given)
    assert (now.tune.epochs, later.tune.epochs) == (1, 3)
    assert made_from(with_recipe(stored, later)) == made_from(with_recipe(stored, now))


def test_equal_numbers_make_equal_digests() -> None:
    def covered(**tune: object) -> object:
        recipe = LaterRecipe.model_validate({"name": "tiny", "data": {"train": "/r"}, "tune": tune})
        return json.dumps(covered_settings(recipe), sort_keys=True)

    assert covered(alpha=8, warmth=5) == covered(alpha=8.0, warmth=5.0)
    assert covered(alpha=32) == covered()
    read_back = LaterRecipe.model_validate_json(LaterRecipe(name="tiny", data={"train": "/r"}).model_dump_json())
    assert json.dumps(covered_settings(read_back), sort_keys=True) == covered()


@pytest.mark.parametrize(
    "change",
    [
        {"tune": {"rank": 3}},
        {"tune": {"objective": "dpo"}},
        {"data": {"train": "/r", "max_tokens": 65}},
        {"gate": {"general_drop": 0.2}},
        {"evaluate": {"questions": [{"ask": "open?"}]}},
        {"evaluate": {"tasks": [{"metric": "exact", "at_least": 1}]}},
    ],
)
def test_what_a_recipe_sets_counts(stored: Resolved, change: dict[str, object]) -> None:
    plain = {"name": "tiny", "data": {"train": "/r"}}
    before = made_from(with_recipe(stored, Recipe.model_validate(plain)))
    assert made_from(with_recipe(stored, Recipe.model_validate({**plain, **change}))) != before


def with_train(resolved: Resolved, *sources: tuple[list[str], float, float | None]) -> Resolved:
    train = [
        DataSource(
            source="x", files=[DataFile(path="/x", sha256=one, bytes=1) for one in files], weight=weight, share=share
        )
        for files, weight, share in sources
    ]
    return resolved.model_copy(update={"data": ResolvedData(train=train)})


def test_what_is_read_counts_with_its_mixture_and_not_how_it_is_named(stored: Resolved) -> None:
    one = stored.data.train[0].files[0].sha256
    same = with_train(stored, ([one], 1, None))
    assert same.data.train_sha256 == one == stored.data.train_sha256
    assert made_from(same) == made_from(stored)
    listed, folder = with_train(stored, (["a"], 1, None), (["b"], 1, None)), with_train(stored, (["a", "b"], 1, None))
    assert made_from(listed) == made_from(folder)
    others = [
        stored,
        listed,
        with_train(stored, ([one], 2, None)),
        with_train(stored, (["a"], 1, None), (["b"], 2, None)),
        with_train(stored, (["a"], 2, None), (["b"], 1, None)),
        with_train(stored, (["a"], 1, 0.5), (["b"], 1, 0.5)),
        with_train(stored, (["a"], 1, 0.4), (["b"], 1, 0.6)),
    ]
    assert len({made_from(resolved) for resolved in others}) == len(others)
    assert len({rows_digest(resolved) for resolved in others}) == len(others)


def test_how_the_model_is_asked_counts_as_it_applies_and_not_who_sets_it(stored: Resolved) -> None:
    recipe = Recipe.model_validate({"name": "tiny", "data": {"train": "/r"}})
    written_out = Recipe.model_validate(
        {"name": "tiny", "data": {"train": "/r"}, "chat": {"template_arguments": {"enable_thinking": False}}}
    )
    plain = with_recipe(stored, recipe)
    asked, thinking = (
        plain.model_copy(update={"chat": ResolvedChat(template_arguments={"enable_thinking": value}, **others)})
        for value, others in ((False, {"tool_parser": "hermes"}), (True, {}))
    )
    assert len({made_from(one) for one in (plain, asked, thinking)}) == 3
    assert len({rows_digest(one) for one in (plain, asked, thinking)}) == 3
    for digest in (made_from, rows_digest):
        assert digest(with_recipe(asked, written_out)) == digest(asked)


@pytest.mark.parametrize(
    "change",
    [
        {"serve": {"watch_seconds": 5}},
        {"compute": {"max_cost": 5}},
        {"export": {"gguf": "q8_0"}},
        {"secrets": "other"},
        {"data": {"train": "/elsewhere"}},
    ],
)
def test_where_it_goes_does_not_count(stored: Resolved, change: dict[str, object]) -> None:
    plain = {"name": "tiny", "data": {"train": "/r"}}
    before = made_from(with_recipe(stored, Recipe.model_validate(plain)))
    assert made_from(with_recipe(stored, Recipe.model_validate({**plain, **change}))) == before


def test_the_port_that_0_1_0_filled_in_is_not_one_that_the_user_has_set(stored: Resolved) -> None:
    assert json.loads(golden("version/resolved.json").read_text())["recipe"]["serve"]["port"] == 8360
    assert stored.recipe.serve.port is None
    assert Resolved.read(stored.model_dump_json(), "again") == stored
