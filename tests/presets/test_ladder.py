"""The candidates for a run: what fits each instance type, what it costs, and the order in which types are tried."""

import re
from dataclasses import replace
from typing import Any

import pytest

from presets.gpu_preset import GpuPreset, gpu_presets
from presets.ladder import (
    Workload,
    available_bytes,
    candidates,
    fastest,
    least_bytes,
    setups,
    what_would_fit,
)
from presets.memory import GIB
from presets.model_preset import find
from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize
from steps.plan.quote.to_buy import Ladder, offer, rung

TRAIN, HELD_OUT = DataSize(rows=10_000, tokens=3_000_000), DataSize(rows=1_000, tokens=300_000)


def job(model: str = "llama-3.1-8b-instruct", **changes: Any) -> Workload:
    preset, source = find(model)
    usual = Workload(preset.architecture, "qlora", 16, 1024, 8192, 3_000_000, 300_000, 6, 64, source.bytes)
    return replace(usual, **changes)


def kind(name: str, cloud: Any = "aws") -> GpuPreset:
    return next(preset for preset in gpu_presets(cloud) if preset.instance_type == name)


def offered(model: str, cloud: Any = "aws", presets: list[GpuPreset] | None = None, **overrides: Any) -> Ladder:
    keys = {f"compute.{key}": value for key, value in overrides.items() if key in ("capacity", "max_cost", "max_hours")}
    if "instance_types" in overrides:
        keys["compute.instance_types"] = overrides["instance_types"]
    keys |= {f"tune.{key}": overrides[key] for key in ("method", "dora", "compile") if key in overrides}
    recipe: Recipe = load(
        "pet-store",
        {"model": model, "data.max_tokens": overrides.get("max_tokens", "1024"), "tune.batch_tokens": "8192", **keys},
    )
    shape, weights = find(model)[0].architecture, find(model)[1].bytes
    return offer(recipe, shape, TRAIN, HELD_OUT, weights, presets or gpu_presets(cloud))


def test_the_first_rung_is_the_cheapest_that_fits() -> None:
    chosen = offered("llama-3.1-8b-instruct").chosen
    costs = [one.cost for one in chosen]
    assert costs == sorted(costs, key=lambda cost: cost or 0)
    cheapest = min((one.cost or 0) for one in offered("llama-3.1-8b-instruct").all if one.setup and one.cost)
    assert chosen[0].cost == cheapest
    assert chosen[0].setup
    assert chosen[0].setup.memory_bytes <= available_bytes(chosen[0].preset)


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_a_model_of_70_billion_goes_up_to_a_gpu_that_holds_it(cloud: str) -> None:
    first = offered("llama-3.3-70b-instruct", cloud).chosen[0]
    assert first.preset.gpu_mib > 44 * 1024
    assert first.setup
    assert first.setup.evaluated_in_4_bits


def test_a_model_of_70_billion_on_24_gib_is_refused_with_the_number() -> None:
    with pytest.raises(UserError) as told:
        offered("llama-3.3-70b-instruct", instance_types="[g6.xlarge]")
    needed = least_bytes(job("llama-3.3-70b-instruct")) / GIB
    assert f"it takes {needed:.1f} GiB on a GPU, which has 20.5 GiB" in str(told.value)
    assert "g6.xlarge (1 x L4)" in str(told.value)


def test_a_node_whose_gpus_share_it_is_bought_where_none_holds_it() -> None:
    (spread,) = setups(job("llama-3.3-70b-instruct"), kind("g6.12xlarge"))
    assert (spread.layout, spread.gpus) == ("sharded", 4)
    chosen = offered("llama-3.3-70b-instruct", instance_types="[g6.12xlarge]")
    first = rung(chosen.chosen[0], chosen.job)
    assert (first.sharded, first.processes, first.gpus) == (True, 4, 4)
    assert first.memory_bytes <= first.available_bytes < least_bytes(chosen.job)


@pytest.mark.parametrize("option", ["dora", "compile"])
def test_what_cannot_be_shared_says_what_to_leave_off(option: str) -> None:
    turned_on: dict[str, Any] = {option: "true"}
    with pytest.raises(UserError, match=r"turn tune\.dora and tune\.compile off, so that the GPUs of a node can share"):
        offered("llama-3.3-70b-instruct", instance_types="[g6.12xlarge]", **turned_on)


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [({"method": "lora"}, "set tune.method=qlora"), ({"max_tokens": "65536"}, "set data.max_tokens=")],
)
def test_what_would_fit_a_node_that_shares_it_is_named(overrides: dict[str, Any], advice: str) -> None:
    with pytest.raises(UserError, match=re.escape(advice)):
        offered("llama-3.3-70b-instruct", instance_types="[g6.12xlarge]", **overrides)


def test_too_large_even_when_it_is_shared_names_what_each_gpu_would_need() -> None:
    with pytest.raises(UserError, match=r"it takes \d+\.\d GiB on each of 4 GPUs, which has 20\.5 GiB"):
        offered("llama-3.3-70b-instruct", instance_types="[g6.12xlarge]", max_tokens="131072")


def test_several_gpus_are_used_side_by_side_where_the_model_fits_each() -> None:
    one, side_by_side = setups(job(), kind("g6.12xlarge"))
    assert (one.layout, side_by_side.layout, side_by_side.gpus) == ("one", "parallel", 4)
    assert one.seconds / 4 <= side_by_side.seconds < one.seconds


def test_more_memory_gives_a_larger_micro_batch_or_keeps_activations() -> None:
    small, large = fastest(job(), kind("g6.xlarge"), "one", 1), fastest(job(), kind("p5.4xlarge"), "one", 1)
    assert small
    assert large
    assert large.micro_batch_tokens > small.micro_batch_tokens
    tight = fastest(job("qwen2.5-14b-instruct", longest_row=2048), kind("g6.xlarge"), "one", 1)
    assert tight
    assert tight.activations != "kept"


def test_nothing_is_over_the_memory_that_it_is_given() -> None:
    for model in ("qwen2.5-0.5b-instruct", "llama-3.1-8b-instruct", "qwen2.5-32b-instruct"):
        found = candidates(job(model), gpu_presets("azure"), ["on-demand"])
        fitting = [(one.setup.memory_bytes, one.available_bytes) for one in found if one.setup]
        assert fitting
        assert all(needed <= available for needed, available in fitting)
        assert all(one.why_not for one in found if not one.setup)


def test_a_gpu_without_bf16_is_not_chosen_and_it_is_said_why() -> None:
    found = candidates(job("smollm2-135m-instruct"), [kind("g4dn.xlarge")], ["on-demand"])
    assert not found[0].setup
    assert "has no bf16" in found[0].why_not


def test_the_download_is_not_paid_for_and_the_longest_leg_is_named() -> None:
    one = candidates(job("llama-3.3-70b-instruct"), [kind("p5.4xlarge")], ["on-demand"])[0]
    assert one.minutes["pull"] == pytest.approx(141e9 / 136e6 / 60, rel=0.01)
    assert one.billed_minutes == pytest.approx(sum(one.minutes.values()) - one.minutes["pull"])
    assert one.cost == pytest.approx(6.88 * one.billed_minutes / 60)
    assert one.bottleneck == "tune"


def test_on_spot_what_has_no_price_is_taken_at_the_price_on_demand_at_most() -> None:
    aws = offered("llama-3.1-8b-instruct", capacity="spot").chosen[0]
    assert aws.price is None
    assert aws.cost is None
    assert aws.cost_at_most
    google = offered("llama-3.1-8b-instruct", "gcp", capacity="spot").chosen[0]
    assert google.price == google.preset.spot


def test_spot_first_asks_for_each_type_on_spot_and_then_on_demand() -> None:
    chosen = offered("llama-3.1-8b-instruct", "gcp", capacity="spot-first").chosen
    asked = [(one.preset.instance_type, one.capacity) for one in chosen]
    assert [capacity for _, capacity in asked[:4]] == ["spot", "on-demand", "spot", "on-demand"]
    assert asked[0][0] == asked[1][0] != asked[2][0]


def test_what_is_sold_out_on_spot_is_still_asked_for_on_demand() -> None:
    types = [kind("g6.xlarge").model_copy(update={"sold_out": ("spot",)})]
    chosen = offered("llama-3.1-8b-instruct", presets=types, capacity="spot-first").chosen
    assert [one.capacity for one in chosen] == ["on-demand"]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            {"max_cost": "0.1"},
            r"compute\.max_cost: the limit is \$0\.1, and the cheapest type that fits, .* would cost \$0\.\d\d",
        ),
        ({"max_hours": "0.05"}, r"compute\.max_hours: the limit is 0\.05 h, and .* would take 0\.\d h"),
        ({"instance_types": "[g6.xlrge]"}, r"compute\.instance_types: g6\.xlrge is in no GPU preset"),
    ],
)
def test_a_run_over_its_limits_is_refused_with_the_numbers(limits: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        offered("llama-3.1-8b-instruct", **limits)


def test_a_tuning_that_would_outlast_its_step_is_refused_with_the_numbers() -> None:
    shape, weights = find("llama-3.1-8b-instruct")[0].architecture, find("llama-3.1-8b-instruct")[1].bytes
    recipe = load(
        "pet-store", {"model": "llama-3.1-8b-instruct", "data.max_tokens": "1024", "tune.batch_tokens": "8192"}
    )
    much = replace(TRAIN, tokens=TRAIN.tokens * 3000)
    with pytest.raises(UserError, match=r"tune may take 72 h in a cluster, and would take \d+\.\d h on g6\.xlarge"):
        offer(recipe, shape, much, HELD_OUT, weights, [kind("g6.xlarge")])
    # What a faster type can do in time is offered.
    assert offer(recipe, shape, replace(TRAIN, tokens=TRAIN.tokens * 100), HELD_OUT, weights, gpu_presets("aws")).chosen


def test_a_limit_of_time_rules_the_slow_ones_out() -> None:
    slow = max(one.total_minutes for one in offered("llama-3.1-8b-instruct").chosen)
    chosen = offered("llama-3.1-8b-instruct", max_hours="0.4").chosen
    assert chosen
    assert all(one.total_minutes <= 24 for one in chosen)
    assert slow > 24


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "lora"}, "set tune.method=qlora"),
        ({"longest_row": 32768}, "set data.max_tokens="),
        ({"shape": find("llama-3.3-70b-instruct")[0].architecture}, "choose a smaller model"),
    ],
)
def test_what_would_fit_is_said(changes: dict[str, Any], told: str) -> None:
    assert what_would_fit(job(**changes), [kind("g6.xlarge")]).startswith(told)


def test_what_is_said_to_fit_does() -> None:
    too_long = job(longest_row=32768)
    told = what_would_fit(too_long, [kind("g6.xlarge")])
    rows = int(told.rpartition("=")[2])
    assert setups(replace(too_long, longest_row=rows), kind("g6.xlarge"))
    assert not setups(too_long, kind("g6.xlarge"))


def test_a_rung_says_what_the_steps_need() -> None:
    chosen = offered("llama-3.1-8b-instruct")
    first, preset = rung(chosen.chosen[0], chosen.job), chosen.chosen[0].preset
    assert (first.device.kind, first.gpus, first.price, first.priced_on) == (
        "cuda",
        1,
        preset.on_demand,
        preset.priced_on,
    )
    assert first.priced_on
    assert first.cost == pytest.approx(chosen.chosen[0].cost, abs=0.01)
    assert first.host_bytes >= 8 * GIB
    assert first.name == f"{preset.instance_type} on-demand"


def test_a_small_host_makes_no_larger_one_of_the_same_gpu_unfit() -> None:
    heavy = job("phi-3-medium-128k-instruct", longest_row=24576, batch_tokens=24576)
    found = {one.preset.instance_type: one for one in candidates(heavy, gpu_presets("aws"), ["on-demand"])}
    assert not found["g5.xlarge"].setup
    assert re.fullmatch(
        r"it takes \d+\.\d GiB of node memory, of which pods can use 13\.6 GiB", found["g5.xlarge"].why_not
    )
    assert found["g5.4xlarge"].setup


def test_what_is_sold_out_on_demand_is_still_asked_for_on_spot() -> None:
    sold_out = [kind("g6.xlarge").model_copy(update={"sold_out": ("on-demand",)}), kind("g6e.xlarge")]
    chosen = offered("llama-3.1-8b-instruct", presets=sold_out, capacity="spot-first").chosen
    asked = [(one.preset.instance_type, one.capacity) for one in chosen]
    assert sorted(asked) == [("g6.xlarge", "spot"), ("g6e.xlarge", "on-demand"), ("g6e.xlarge", "spot")]
    assert asked.index(("g6e.xlarge", "spot")) + 1 == asked.index(("g6e.xlarge", "on-demand"))


def test_where_all_that_fits_is_sold_out_that_is_said_and_not_the_rows() -> None:
    none_left = [kind("g6.xlarge").model_copy(update={"sold_out": ("on-demand", "spot")}), kind("g4dn.xlarge")]
    with pytest.raises(
        UserError, match=r"every instance type that it fits \(g6\.xlarge\) is sold out on demand"
    ) as told:
        offered("llama-3.1-8b-instruct", presets=none_left)
    assert "max_tokens" not in str(told.value)
