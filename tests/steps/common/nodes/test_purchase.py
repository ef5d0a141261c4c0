"""What a run has bought and what it has cost, also if a spot node was taken back and replaced by another."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recipes.compute import Compute
from steps.common.handover.resolved import Hardware
from steps.common.nodes import ledger_file
from steps.common.nodes.ledger import Purchase, RunningNode, planned_purchase
from steps.common.storage import volumes
from steps.provision.deadline import until
from steps.reap.step import why_unneeded
from steps.tune.train_process import deadline as ends
from tests.steps.provision.attempt.test_causes import a_rung

HOUR = 3600.0
SPOT, ON_DEMAND = a_rung("g6.xlarge", "spot"), a_rung("g6.xlarge")
LADDER = [
    SPOT.model_copy(update={"price": 1.0, "node_gpus": 1}),
    ON_DEMAND.model_copy(update={"price": 3.0, "node_gpus": 1}),
]
FIRST, SECOND = RunningNode("a", "g6.xlarge", "spot", 0.0), RunningNode("b", "g6.xlarge", "on-demand", 2 * HOUR)


def bought(**limits: float) -> Purchase:
    return planned_purchase(Compute(**limits), LADDER)


def test_nothing_was_paid_where_no_machine_came() -> None:
    assert bought(max_cost=1.0, max_hours=1.0).cost(HOUR) is None
    assert bought(max_cost=1.0, max_hours=1.0).until(HOUR) == 0


def test_each_machine_is_reckoned_at_its_own_price_for_as_long_as_it_was_there() -> None:
    purchase = bought().updated([FIRST], HOUR).updated([], 1.5 * HOUR).updated([SECOND], 2 * HOUR)
    paid = purchase.cost(3 * HOUR)
    assert paid
    assert (paid.hours, paid.gpu_hours, paid.dollars) == (2.5, 2.5, pytest.approx(1.5 * 1.0 + 1.0 * 3.0))
    assert paid.in_words() == "g6.xlarge, g6.xlarge after 2h30m, $4.50"


def test_to_look_again_changes_nothing() -> None:
    once = bought().updated([FIRST], HOUR)
    assert once.updated([FIRST], 2 * HOUR) == once
    gone = once.updated([], 2 * HOUR)
    assert gone.updated([], 3 * HOUR) == gone
    assert Purchase.model_validate_json(gone.model_dump_json()) == gone


def test_the_first_limit_counts() -> None:
    assert bought().updated([FIRST], 0).until(0) == 0
    assert bought(max_hours=2).updated([FIRST], 0).until(0) == 2 * HOUR
    assert bought(max_hours=2, max_cost=1).updated([FIRST], 0).until(0) == HOUR


def test_a_limit_of_money_comes_sooner_on_the_dearer_machine_that_came_in_place() -> None:
    purchase = bought(max_cost=4.5).updated([FIRST], 0)
    assert purchase.until(0) == 4.5 * HOUR
    replaced = purchase.updated([], 1.5 * HOUR).updated([SECOND], 2 * HOUR)
    # 1.5 dollars are spent, and 3 are left for an hour of the second.
    assert replaced.until(2 * HOUR) == pytest.approx(3 * HOUR)
    assert replaced.until(2.5 * HOUR) == pytest.approx(3 * HOUR)


def test_where_a_price_on_spot_is_not_known_the_limit_holds_at_the_price_on_demand() -> None:
    unpriced = [LADDER[0].model_copy(update={"price": None, "price_at_most": 3.0})]
    purchase = planned_purchase(Compute(max_cost=1.5), unpriced).updated([FIRST], 0)
    assert purchase.until(0) == 0.5 * HOUR
    paid = purchase.cost(HOUR)
    assert paid
    assert paid.dollars is None
    assert paid.in_words() == "g6.xlarge after 1h00m, at an unknown price"


def test_a_machine_of_a_type_that_was_not_offered_is_told_all_the_same() -> None:
    paid = bought().updated([RunningNode("c", "g7.xlarge", "spot", 0.0)], 0).cost(HOUR)
    assert paid
    assert (paid.instance_types, paid.dollars) == (["g7.xlarge"], None)


def test_on_machines_that_cost_nothing_more_hours_alone_are_limited() -> None:
    assert until(Compute(max_hours=2, max_cost=1), 1000) == 1000 + 2 * HOUR
    assert until(Compute(max_cost=1), 1000) == 0


def test_a_machine_that_comes_under_the_name_of_a_lost_one_is_another() -> None:
    """Google gives the replacement of a spot node its name."""
    again = RunningNode("a", "g6.xlarge", "spot", 2 * HOUR)
    purchase = bought(max_hours=3).updated([FIRST], 0).updated([], HOUR).updated([again], 2 * HOUR)
    paid = purchase.cost(3 * HOUR)
    assert paid
    assert (paid.hours, paid.dollars) == (2.0, 2.0)
    assert purchase.until(3 * HOUR) == 4 * HOUR


def test_another_try_at_a_run_goes_on_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path))
    assert ledger_file.cost_of("a-run") is None
    assert ledger_file.save("a-run", bought().updated([FIRST], HOUR), 2 * HOUR) == ledger_file.cost_of("a-run")
    again = ledger_file.purchase_of("a-run", Compute(max_cost=4.0), LADDER)
    assert again.until(5 * HOUR) == 0
    second = again.updated([RunningNode("b", "g6.xlarge", "spot", 5 * HOUR)], 5 * HOUR)
    # The first attempt spent two of the four dollars.
    assert second.until(5 * HOUR) == 7 * HOUR
    ledger_file.save("a-run", second, 6 * HOUR)
    kept = ledger_file.cost_of("a-run")
    assert kept
    assert kept.dollars == pytest.approx(3.0)


def test_a_full_disk_keeps_no_machine_from_being_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").touch()  # a file, where a folder is needed
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))
    told = ledger_file.save("a-run", bought().updated([FIRST], HOUR), 2 * HOUR)
    assert told
    assert told.dollars == pytest.approx(2.0)


def test_what_money_allows_holds_on_the_node_whose_price_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = Hardware(rung=SPOT, node="first", since=0, until=900.0, until_on_node=100.0)
    assert ends(hardware) == 100.0  # on one machine the node's name is not set
    monkeypatch.setenv("FINELINE_NODE", "first")
    assert ends(hardware) == 100.0
    monkeypatch.setenv("FINELINE_NODE", "second")
    assert ends(hardware) == 900.0
    assert ends(hardware.model_copy(update={"until": 0.0})) == 0.0


def workflow(phase: str, ended: float | None, main_ended: float | None) -> dict[str, Any]:
    def told(when: float | None) -> str | None:
        return None if when is None else datetime.fromtimestamp(when, UTC).isoformat()

    nodes = {"a-run": {"finishedAt": told(main_ended)}}
    return {"metadata": {"name": "a-run"}, "status": {"phase": phase, "finishedAt": told(ended), "nodes": nodes}}


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (None, "its run is gone, 2h46m after it requested a node"),
        (workflow("Running", None, None), ""),
        (workflow("Succeeded", 9_900.0, 9_890.0), ""),
        (workflow("Succeeded", 9_000.0, 8_990.0), "its run ended 16m40s ago (Succeeded)"),
        # Its exit handler waits for the nodes to terminate.
        (workflow("Running", None, 9_400.0), ""),
        (workflow("Running", None, 8_000.0), "its run ended 33m20s ago, but its exit handler has not"),
    ],
)
def test_the_reaper_knows_whose_machines_nobody_needs(of: dict[str, Any] | None, said: str) -> None:
    assert why_unneeded(0.0, of, 10_000.0) == said
