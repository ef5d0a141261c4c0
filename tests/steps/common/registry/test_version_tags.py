"""What the tags of versions say once a rollout has died: nothing is under way, and nobody goes back to its version."""

from typing import Any

import pytest

from steps.common.registry import tracking, versions


@pytest.fixture
def store() -> Any:
    """A registry with three versions of a model, of which the first was champion before the second."""
    store = tracking.client(tracking.default_uri())
    store.create_registered_model("pets")
    for _ in range(3):
        store.create_model_version("pets", "file:///nothing")
    for number, since in ((1, 100), (2, 200)):
        store.set_model_version_tag("pets", str(number), versions.CHAMPION_SINCE, str(since))
    store.set_registered_model_alias("pets", versions.CHAMPION, 2)
    return store


def test_a_version_whose_alias_was_never_written_is_not_the_champion_before(store: Any) -> None:
    store.set_model_version_tag("pets", "3", versions.CHAMPION_SINCE, "300")
    before = versions.champion_before(store, "pets")
    assert before is not None
    assert int(before.version) == 1


def test_a_clock_that_is_ahead_does_not_hide_the_champion_before(store: Any) -> None:
    store.set_model_version_tag("pets", "1", versions.CHAMPION_SINCE, "300")
    before = versions.champion_before(store, "pets")
    assert before is not None
    assert int(before.version) == 1


def test_whoever_holds_the_right_ends_the_rollouts_that_died(store: Any) -> None:
    for number in ("1", "3"):
        store.set_model_version_tag("pets", number, versions.ROLLOUT, versions.UNDER_WAY)
    store.set_model_version_tag("pets", "2", versions.ROLLOUT, "served since 2026-01-01T00:00:00Z")
    versions.end_rollouts(store, "pets")
    assert versions.rolled_out_now(store, "pets") == []
    told = {number: store.get_model_version("pets", str(number)).tags[versions.ROLLOUT] for number in (1, 2, 3)}
    assert told == {1: "interrupted", 2: "served since 2026-01-01T00:00:00Z", 3: "interrupted"}
