"""Which keys of a recipe a caller may set."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.cluster.cluster_jobs import ClusterJobs
from api.jobs.recipe_keys import ALLOWED, REFUSED, UNDECIDED, check_keys, why_refused
from api.machine.machine_jobs import MachineJobs
from api.openai_errors import ApiError
from recipes.recipe import Recipe
from tests.docs.documents import ROOT

SCHEMA: dict[str, Any] = Recipe.model_json_schema()


def keys_in(part: dict[str, Any], parent: str = "") -> Iterator[str]:
    """Yield the dotted keys of a part of the recipe's JSON Schema, and of the parts in it."""
    for name, value in part.get("properties", {}).items():
        yield f"{parent}{name}"
        for inner in parts_in(value):
            yield from keys_in(inner, f"{parent}{name}.")


def parts_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts that a value may be, or that the items of a list may be."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield SCHEMA["$defs"][value["$ref"].rpartition("/")[2]]
        for name in ("anyOf", "allOf", "oneOf", "items"):
            yield from parts_in(value.get(name))
    for one in value if isinstance(value, list) else []:
        yield from parts_in(one)


KEYS = list(dict.fromkeys(keys_in(SCHEMA)))
OPEN = {f"{part}.{name}" for part, names in ALLOWED.items() for name in names.split()} | set(ALLOWED)


def within_refused(key: str) -> bool:
    return any(key.startswith(f"{part}.") for part in REFUSED)


def given(key: str, value: Any = "x") -> dict[str, Any]:
    """Return a tree with one key; the parts that are lists have one item."""
    parts = key.split(".")
    tree: Any = value
    for number in range(len(parts) - 1, -1, -1):
        tree = {parts[number]: tree}
        if ".".join(parts[:number]) in ("evaluate.tasks", "evaluate.lm_eval", "evaluate.questions"):
            tree = [tree]
    assert isinstance(tree, dict)
    return tree


def test_the_walk_reaches_every_part() -> None:
    assert {"tune.seed", "evaluate.lm_eval.include", "serve.form", "data.train.source", "compute.idle_minutes"} <= set(
        KEYS
    )


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_either_allowed_or_refused_with_a_reason(key: str) -> None:
    assert (key in OPEN) + (key in REFUSED) + within_refused(key) == 1
    assert why_refused(key, {}) != UNDECIDED or within_refused(key)
    if key in OPEN:
        check_keys(given(key, [] if key in ALLOWED else 3), {})
        return
    with pytest.raises(ApiError, match="cannot be set here: ") as raised:
        check_keys(given(key), {})
    assert key.startswith(str(raised.value.param).removeprefix("recipe."))


def test_the_tables_name_no_other_keys() -> None:
    assert (OPEN | set(REFUSED)) - set(KEYS) == set()


def test_the_documentation_names_each_key_that_may_be_set() -> None:
    page = (ROOT / "docs" / "moving-from-openai.md").read_text()
    listed = page.partition("`recipe` takes these keys")[2].partition("Every other key")[0]
    leaves = OPEN - set(ALLOWED)
    assert {key for key in leaves if f"`{key}`" not in listed and f"`{key.partition('.')[0]}.*`" not in listed} == set()
    assert {part for part in ("serve.*", "compute.*", "data.*") if f"`{part}`" in listed} == set()


def test_a_key_that_nobody_has_decided_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(REFUSED, "serve.gpus")
    with pytest.raises(ApiError, match=r"serve\.gpus cannot be set here: the API does not know it yet"):
        check_keys({"serve": {"gpus": 3}}, {})


def test_what_no_run_in_a_cluster_can_do_is_refused_there_with_the_reason() -> None:
    own = {"evaluate": {"lm_eval": [{"task": "arc_easy"}]}}
    check_keys(own, MachineJobs().refused_keys)
    with pytest.raises(ApiError, match=r"evaluate\.lm_eval cannot be set here: a run in a cluster cannot") as raised:
        check_keys(own, ClusterJobs.refused_keys)
    assert (raised.value.status, raised.value.param) == (400, "recipe.evaluate.lm_eval")
