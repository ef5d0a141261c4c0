"""The mapping of a request on a recipe."""

from typing import Any, get_args

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from api.jobs.create_body import CreateBody
from api.jobs.recipe_keys import REFUSED
from api.jobs.recipe_of_job import JobData, recipe_of
from api.openai_errors import ApiError, not_found
from recipes.recipe import Recipe
from recipes.recipe_part import RecipePart
from recipes.serving import Registry

FILES = {f"file-{name}": f"/data/{name}/uploaded.jsonl" for name in ("train", "held", "task", "other")}
ROW_TOKENS = 30.0


def find(file_id: str, field: str) -> str:
    if file_id not in FILES:
        raise not_found("file", file_id, field)
    return FILES[file_id]


def recipe(**given: Any) -> Recipe:
    body = CreateBody.model_validate({"model": "qwen3-8b", "training_file": "file-train", **given})
    return recipe_of(body, "pets-shop", JobData(find, lambda objective: ROW_TOKENS * (2 if objective == "dpo" else 1)))


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}}


def dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}}


def refused(**given: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        recipe(**given)
    assert "\n" not in str(raised.value)
    return raised.value


def plain(**tune: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "pets-shop", "model": "qwen3-8b", "data": {"train": FILES["file-train"]}, "tune": tune}
    )


def test_the_least_request_is_the_recipe_with_its_defaults() -> None:
    assert recipe() == plain()
    assert recipe(**supervised(n_epochs="auto", batch_size="auto", learning_rate_multiplier="auto")) == plain()
    assert recipe(**dpo(beta="auto", n_epochs="auto")) == plain(objective="dpo")


def test_each_field_is_a_key_of_the_recipe() -> None:
    found = recipe(
        validation_file="file-held", seed=5, **supervised(n_epochs=3, batch_size=16, learning_rate_multiplier=2)
    )
    assert found.data.validation == FILES["file-held"]
    assert (found.tune.epochs, found.tune.batch_tokens, found.tune.seed) == (3, 480, 5)
    assert found.tune.learning_rate == pytest.approx(4e-4)
    preferred = recipe(**dpo(beta=0.3, batch_size=4, learning_rate_multiplier=0.5))
    assert (preferred.tune.objective, preferred.tune.beta, preferred.tune.batch_tokens) == ("dpo", 0.3, 240)
    assert preferred.tune.learning_rate == pytest.approx(5e-6)


def test_the_deprecated_hyperparameters_count_too() -> None:
    assert recipe(hyperparameters={"n_epochs": 7}).tune.epochs == 7


def test_a_multiplier_multiplies_the_recipes_own_learning_rate() -> None:
    found = recipe(recipe={"tune": {"learning_rate": 1e-3}}, **supervised(learning_rate_multiplier=2))
    assert found.tune.learning_rate == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (supervised(learning_rate_multiplier=1e6), "method.supervised.hyperparameters.learning_rate_multiplier"),
        ({"hyperparameters": {"learning_rate_multiplier": 1e6}}, "hyperparameters.learning_rate_multiplier"),
        ({"recipe": {"tune": {"epochs": 2}}, **supervised(n_epochs=3)}, "method.supervised.hyperparameters.n_epochs"),
        ({"recipe": {"tune": {"beta": 1}}, **dpo(beta=0.2)}, "method.dpo.hyperparameters.beta"),
        ({"recipe": {"tune": {"learning_rate": "1"}}, **dpo(learning_rate_multiplier=2)}, "recipe.tune.learning_rate"),
        ({"recipe": {"tune": 3}}, "recipe.tune"),
        ({"recipe": {"data": []}}, "recipe.data"),
        ({"recipe": {"tune": {"ranc": 3}}}, "recipe"),
        ({"recipe": {"compute": 3}}, "recipe"),
        ({"recipe": {"evaluate": {"tasks": [{"metric": "exact", "data": 3}]}}}, "recipe.evaluate.tasks.0.data"),
        ({"recipe": {"evaluate": {"tasks": 3}}}, "recipe"),
        ({"recipe": {"evaluate": {"tasks": [3]}}}, "recipe"),
        ({"recipe": {"evaluate": {"lm_eval": 3}}}, "recipe"),
        ({"recipe": {"evaluate": {"questions": [{"ask": "{{workflow.name}}"}]}}}, "recipe"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(given: dict[str, Any], param: str) -> None:
    assert (refused(**given).status, refused(**given).param) == (400, param)


def test_a_mistyped_key_is_named_with_the_nearest() -> None:
    assert str(refused(recipe={"tune": {"ranc": 3}})) == "recipe: tune.ranc: unknown key; did you mean 'rank'?"


def test_other_keys_of_the_recipe_are_taken() -> None:
    own = {
        "tune": {"rank": 32, "patience": 2},
        "gate": {"better_than_base": 0.1},
        "data": {"max_tokens": 512},
        "compute": {"max_cost": 3},
        "chat": {"template_arguments": {"enable_thinking": True}},
        "evaluate": {"questions": [{"ask": "open?"}], "lm_eval": [{"task": "arc_easy"}]},
        "serve": {"answers_alike": 0.5},
    }
    found = recipe(recipe=own)
    assert (found.tune.rank, found.gate.better_than_base, found.data.max_tokens) == (32, 0.1, 512)
    assert (found.compute.max_cost, found.evaluate.questions[0].ask, found.serve.answers_alike) == (3, "open?", 0.5)
    assert found.evaluate.lm_eval[0].task == "arc_easy"


def test_tasks_name_files_of_the_team() -> None:
    tasks = [
        {"metric": "exact", "data": "file-task"},
        {"metric": "contains", "data": ["file-task", "file-other"]},
        {"metric": "rouge_l"},
        {"metric": "exact", "data": "heldout"},
    ]
    own: dict[str, Any] = {"evaluate": {"tasks": tasks}}
    found = recipe(recipe=own).evaluate.tasks
    both = [FILES["file-task"], FILES["file-other"]]
    assert [task.data for task in found] == [FILES["file-task"], both, "heldout", "heldout"]
    assert own["evaluate"]["tasks"][0]["data"] == "file-task"


@pytest.mark.parametrize("place", ["/etc/passwd", "s3://bucket/rows.jsonl", "hf://datasets/a/b", "file-nobodys", ""])
def test_no_other_place_is_read(place: str) -> None:
    task = {"evaluate": {"tasks": [{"metric": "exact", "data": place}]}}
    for given, param in (
        ({"recipe": task}, "recipe.evaluate.tasks.0.data"),
        ({"validation_file": place or "x"}, "validation_file"),
    ):
        error = refused(**given)
        assert (error.status, error.param) == (404, param)


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_is_not_the_callers_is_refused_by_name(key: str) -> None:
    *parents, last = key.split(".")
    own: dict[str, Any] = {last: "x"}
    for parent in reversed(parents):
        own = {parent: [own] if parent == "lm_eval" else own}
    error = refused(recipe=own)
    assert error.param == f"recipe.{key}"
    assert f"{key} cannot be set here: {REFUSED[key]}" in str(error)
    model: type[RecipePart] = Recipe
    for parent in parents:
        if parent == "lm_eval":
            return
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type)
        model = annotation
    assert last in model.model_fields


def test_every_place_of_the_recipe_is_one_of_an_uploaded_file() -> None:
    own = {"evaluate": {"tasks": [{"metric": "exact", "data": "file-task"}]}}
    places = recipe(validation_file="file-held", recipe=own).places
    assert {place for found in places.values() for place in found} <= set(FILES.values())


def keys_of(model: type[BaseModel]) -> set[str]:
    """Return the names of a model's fields, and of those of the models in it."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for one in (field.annotation, *get_args(field.annotation)):
            if isinstance(one, type) and issubclass(one, BaseModel):
                found |= keys_of(one)
    return found


KEYS = [*sorted(keys_of(Recipe)), "source", "weight", "", "a.b"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(sorted(FILES))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@hypothesis.given(own=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), multiplied=st.booleans())
@hypothesis.settings(max_examples=400, deadline=None, derandomize=True)
def test_whatever_the_keys_are_there_is_a_recipe_or_one_line(own: dict[str, Any], multiplied: bool) -> None:
    given = {"model": "qwen3-8b", "training_file": "file-train", "recipe": own}
    try:
        body = CreateBody.model_validate(given | (supervised(learning_rate_multiplier=2) if multiplied else {}))
        found = recipe_of(body, "pets-shop", JobData(find, lambda _: ROW_TOKENS))
    except ValidationError:
        return  # NaN
    except ApiError as error:
        assert "\n" not in str(error)
        assert error.param
        return
    assert {place for places in found.places.values() for place in places} <= set(FILES.values())
    assert (found.name, found.model, found.secrets, found.registry) == ("pets-shop", "qwen3-8b", "fineline", Registry())
