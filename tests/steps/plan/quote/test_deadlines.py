"""What a recipe asks for must end before the deadline of its step."""

from typing import Any

import pytest

from recipes.reader import load
from steps.common.runtime.errors import UserError
from steps.plan.check_recipe import CheckScope, check_recipe
from steps.plan.quote.deadlines import ROLLOUT_HOURS, rollout_seconds

TOLD = "serve: a rollout may take 30 h, and this one up to "


@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (
            {"watch_seconds": 86400, "answer_seconds": 7200},
            "34.2 h, with ready_seconds 0, watch_seconds 86400 and answer_seconds 7200; lower the largest",
        ),
        ({"ready_seconds": 60000}, "34.0 h, with ready_seconds 60000, watch_seconds 30 and answer_seconds 600"),
        ({"answer_seconds": 40000}, "37.5 h, with ready_seconds 0, watch_seconds 30 and answer_seconds 40000"),
    ],
)
def test_a_rollout_that_would_outlast_its_step_is_refused_in_a_cluster(serve: dict[str, Any], told: str) -> None:
    recipe = load("pet-store", {f"serve.{key}": str(value) for key, value in serve.items()})
    nothing_is_read = CheckScope(readable=lambda _: False, serving=None)
    with pytest.raises(UserError) as caught:
        check_recipe(recipe, nothing_is_read)
    assert str(caught.value).startswith(TOLD + told)


def test_a_version_can_be_watched_for_a_day() -> None:
    serve = load("pet-store", {"serve.watch_seconds": "86400"}).serve
    assert rollout_seconds(serve) < ROLLOUT_HOURS * 3600
