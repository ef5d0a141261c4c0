"""Names of bases, of models, and of runs."""

import pytest
from pydantic import TypeAdapter

from api.models.model_names import check_base, model_name, run_name
from api.openai_errors import ApiError
from presets.model_preset import model_presets
from recipes.recipe_part import ModelName

UNIQUE = "0123456789abcdef"


@pytest.mark.parametrize("model", ["qwen3-8b", "smollm2-135m-instruct:pypi", "hf://org/name@v1", "pypi://a==1/b.gguf"])
def test_presets_and_public_addresses_may_be_named(model: str) -> None:
    check_base(model)


@pytest.mark.parametrize(
    "model",
    [
        "file:///etc",
        "s3://bucket/model",
        "gs://bucket/model",
        "https://example.com/model/",
        "hf://datasets/org/name",
        "FILE:///etc",
        "/etc/passwd",
        "../model",
        "gpt-4o-mini",
        "pets-shop",
    ],
)
def test_nothing_else_may(model: str) -> None:
    with pytest.raises(ApiError, match=r"base model") as raised:
        check_base(model)
    assert (raised.value.status, raised.value.param) == (400, "model")


def test_a_mistyped_preset_is_named_with_the_nearest() -> None:
    with pytest.raises(ApiError, match=r"did you mean 'qwen3-8b'"):
        check_base("qwen3-8")


@pytest.mark.parametrize(
    ("suffix", "name"),
    [("shop", "pets-shop"), ("My Shop", "pets-my-shop"), ("v1.2_final", "pets-v1-2-final"), ("-a--b-", "pets-a-b")],
)
def test_a_suffix_is_the_second_part_of_the_name(suffix: str, name: str) -> None:
    assert model_name("pets", suffix, "qwen3-8b", UNIQUE) == name
    assert model_name("pets", suffix, "phi-4", "f" * 16) == name


@pytest.mark.parametrize(("suffix", "words"), [("!", "no letter"), ("é", "no letter"), ("s" * 46, "may have 45")])
def test_a_suffix_that_cannot_be_one_is_refused(suffix: str, words: str) -> None:
    with pytest.raises(ApiError, match=words) as raised:
        model_name("pets", suffix, "qwen3-8b", UNIQUE)
    assert raised.value.param == "suffix"


def test_a_name_of_fineline_itself_is_refused() -> None:
    with pytest.raises(ApiError, match="reserved"):
        model_name("fineline", "mlflow", "qwen3-8b", UNIQUE)


@pytest.mark.parametrize(
    "base", [*model_presets(), "hf://org/A_Model-7B.v2@main", "pypi://some-package==1.0/File.Q8_0.gguf", "hf://org/___"]
)
def test_without_a_suffix_each_job_has_a_name_of_its_own(base: str) -> None:
    team = "t" * 20
    name, other = model_name(team, None, base, UNIQUE), model_name(team, None, base, "f" * 16)
    assert name != other
    for one in (name, other):
        assert TypeAdapter(ModelName).validate_python(one) == one
        assert len(run_name(one, UNIQUE)) <= 63


def test_the_bases_name_stands_in_it() -> None:
    assert model_name("pets", None, "hf://org/Model-7B@main", UNIQUE) == "pets-model-7b-012345"
