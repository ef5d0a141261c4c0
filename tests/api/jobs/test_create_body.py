"""The request that creates a job: what is kept, and what is refused by name."""

from typing import Any, get_type_hints

import pytest
from openai.types.fine_tuning import job_create_params
from openai.types.fine_tuning.dpo_hyperparameters import DpoHyperparameters as TheirDpo
from openai.types.fine_tuning.supervised_hyperparameters import SupervisedHyperparameters as Theirs
from pydantic import ValidationError

from api.error_answers import refusal_of
from api.jobs.create_body import CreateBody, DpoHyperparameters, SupervisedHyperparameters

LEAST: dict[str, Any] = {"model": "qwen3-8b", "training_file": "file-1"}


def refused(**given: Any) -> tuple[str | None, str]:
    with pytest.raises(ValidationError) as raised:
        CreateBody.model_validate(LEAST | given)
    refusal = refusal_of(raised.value.errors())
    return refusal.param, str(refusal)


def test_it_has_every_field_of_openais_and_one_of_its_own() -> None:
    theirs = set(get_type_hints(job_create_params.JobCreateParams))
    assert set(CreateBody.model_fields) == theirs | {"recipe"}
    assert set(SupervisedHyperparameters.model_fields) == set(Theirs.model_fields)
    assert set(DpoHyperparameters.model_fields) == set(TheirDpo.model_fields)


def test_without_a_method_it_is_supervised_with_everything_automatic() -> None:
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    expected = {"type": "supervised", "supervised": {"hyperparameters": auto}}
    assert CreateBody.model_validate(LEAST).wanted_method.in_answers() == expected
    named = {"method": {"type": "supervised", "supervised": {"hyperparameters": auto}}}
    assert CreateBody.model_validate(LEAST | named).wanted_method.in_answers() == expected


def test_the_deprecated_hyperparameters_are_those_of_supervised() -> None:
    body = CreateBody.model_validate(LEAST | {"hyperparameters": {"n_epochs": 3}})
    assert body.wanted_method.in_answers()["supervised"]["hyperparameters"]["n_epochs"] == 3


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method", "reinforcement"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method", "dpo has no effect"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method", "supervised has no effect"),
        ({"method": {"type": "supervised"}, "hyperparameters": {}}, None, "both given"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "Weights and Biases"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "16"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "65 characters"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "513 characters"),
        ({"metadata": {"k": 1}}, "metadata.k", "string"),
        ({"suffix": ""}, "suffix", "at least 1"),
        ({"suffix": "s" * 65}, "suffix", "at most 64"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**31}, "seed", "less than"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "integer"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "1"),
        ({"hyperparameters": {"batch_size": True}}, "hyperparameters.batch_size", "integer"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier", "0"),
        ({"hyperparameters": {"beta": 0.1}}, "hyperparameters.beta", "unknown field"),
        ({"recipe": {"tune": {"rank": float("inf")}}}, "recipe", "infinity"),
        ({"recipe": {"tune": {"rank": 2**53 + 1}}}, "recipe", "tune.rank is an integer beyond 2^53"),
        ({"recipe": {"a": [{"b": -(10**4000)}]}}, "recipe", "a.0.b is an integer beyond 2^53"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 10**400}},
            "hyperparameters.learning_rate_multiplier",
            "2^53",
        ),
        ({"hyperparameters": {"batch_size": 10**400}}, "hyperparameters.batch_size", "2^53"),
        ({"seed": 10**400}, "seed", "less than"),
        ({"recipe": {"name": "x" * 70_000}}, "recipe", "65536"),
        ({"n_epochs": 3}, "n_epochs", "unknown field"),
    ],
)
def test_what_is_not_done_is_refused_by_name(given: dict[str, Any], param: str | None, words: str) -> None:
    found, message = refused(**given)
    assert found == param
    assert words in message
    assert "\n" not in message


def test_a_recipe_that_is_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert refused(recipe={"tune": deep}) == ("recipe", "recipe: is nested too deeply; flatten it")


def test_equal_requests_have_one_digest_and_others_another() -> None:
    first, same = CreateBody.model_validate(LEAST), CreateBody.model_validate({**LEAST, "seed": None})
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"suffix": "a"},
        {"recipe": {}},
        {"method": {"type": "dpo"}},
        {"metadata": {"a": "b"}},
    ]
    digests = {CreateBody.model_validate(LEAST | other).digest() for other in others}
    assert first.digest() == same.digest()
    assert len(digests | {first.digest()}) == len(others) + 1
