"""The predicted cost of pairs: both sides in one micro-batch, and one pass of the base as reference."""

from dataclasses import replace

import pytest

from presets.gpu_preset import gpu_presets
from presets.ladder import Workload, fastest, least_bytes, what_would_fit
from presets.model_preset import find
from recipes.reader import RecipeError, load
from recipes.recipe import Recipe
from steps.plan.data.data_file import DataSize
from steps.plan.quote.pair_tokens import longest_row, reference_tokens
from steps.plan.quote.this_machine import this_machine
from steps.plan.quote.to_buy import offer

TRAIN, HELD_OUT = DataSize(rows=10_000, tokens=3_000_000), DataSize(rows=1_000, tokens=300_000)
SHAPE = find("smollm2-135m-instruct:pypi")[0].architecture


def recipe(objective: str, **others: str) -> Recipe:
    wanted = {
        "tune.objective": objective,
        "tune.batch_tokens": "2048",
        "data.max_tokens": "1024",
        "tune.evaluations": "0",
    } | others
    return load("name: shop\ndata: {train: rows.jsonl}\n", wanted)


def test_the_rate_is_one_for_preferences_unless_it_is_set() -> None:
    assert recipe("sft").tune.learning_rate == 2e-4
    assert recipe("dpo").tune.learning_rate == 1e-5
    assert recipe("dpo", **{"tune.learning_rate": "3e-4"}).tune.learning_rate == 3e-4
    travelled = load(recipe("dpo", **{"tune.learning_rate": "2e-4"}).model_dump_json())
    assert travelled.tune.learning_rate == 2e-4


def test_what_only_preferences_know_is_refused_elsewhere() -> None:
    with pytest.raises(RecipeError, match=r"beta has no effect with objective sft; set tune.objective=dpo"):
        recipe("sft", **{"tune.beta": "0.3"})


def test_both_sides_of_a_pair_and_one_reading_by_the_base_are_reckoned_with() -> None:
    assert (longest_row(recipe("sft")), longest_row(recipe("dpo"))) == (1024, 2048)
    assert reference_tokens(recipe("sft"), TRAIN) == 0
    assert reference_tokens(recipe("dpo", **{"tune.epochs": "3"}), TRAIN) == TRAIN.tokens
    assert reference_tokens(recipe("dpo", **{"tune.epochs": "0.5"}), TRAIN) == TRAIN.tokens / 2


def test_on_this_machine_a_forward_pass_comes_to_what_tuning_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.plan.quote.this_machine.memory_available", lambda: 64 << 30)
    monkeypatch.setattr("steps.plan.quote.this_machine._flops_a_second", lambda _: 1e11)
    learning, _ = this_machine(recipe("sft"), "m", SHAPE, TRAIN, HELD_OUT)
    preferring, _ = this_machine(recipe("dpo"), "m", SHAPE, TRAIN, HELD_OUT)
    assert preferring.micro_batch_tokens == 2048
    assert preferring.memory_bytes == learning.memory_bytes
    assert preferring.minutes["tune"] / learning.minutes["tune"] == pytest.approx(1.5, abs=0.01)
    twice_as_long = recipe("dpo", **{"data.max_tokens": "2048"})
    assert this_machine(twice_as_long, "m", SHAPE, TRAIN, HELD_OUT)[0].memory_bytes > learning.memory_bytes


@pytest.mark.parametrize("activations", ["kept", "recomputed"])
def test_on_a_gpu_likewise(activations: str) -> None:
    tokens = 1024 if activations == "kept" else 8192
    preset, source = find("llama-3.2-1b-instruct" if activations == "kept" else "llama-3.1-8b-instruct")
    learning = Workload(
        preset.architecture,
        "lora" if activations == "kept" else "qlora",
        16,
        tokens,
        tokens,
        3_000_000,
        300_000,
        6,
        64,
        source.bytes,
    )
    gpu = next(one for one in gpu_presets("aws") if one.instance_type == "g6.xlarge")
    before, after = (
        fastest(learning, gpu, "one", 1),
        fastest(replace(learning, reference_tokens=3_000_000), gpu, "one", 1),
    )
    assert before
    assert after
    assert before.activations == activations
    # 2N of forward beside the 4N of a tuning, or the 6N of one that recomputes.
    assert after.seconds / before.seconds == pytest.approx(1.5 if activations == "kept" else 4 / 3, rel=1e-3)
    assert after.memory_bytes == before.memory_bytes


def test_what_does_not_fit_is_told_in_tokens_of_one_side() -> None:
    preset, source = find("llama-3.1-8b-instruct")
    rows = Workload(preset.architecture, "qlora", 16, 262_144, 262_144, 3_000_000, 0, 0, 0, source.bytes)
    pairs = replace(rows, reference_tokens=3_000_000)
    gpu = [one for one in gpu_presets("aws") if one.instance_type == "g6.xlarge"]
    assert least_bytes(rows) > 24 << 30
    of_a_row, of_a_side = (int(what_would_fit(job, gpu).removeprefix("set data.max_tokens=")) for job in (rows, pairs))
    assert of_a_side == of_a_row / 2


def test_an_offer_keeps_both_sides_together() -> None:
    shape, weights = find("llama-3.1-8b-instruct")[0].architecture, find("llama-3.1-8b-instruct")[1].bytes
    chosen = offer(recipe("dpo"), shape, TRAIN, HELD_OUT, weights, gpu_presets("aws"))
    assert chosen.job.longest_row == 2048
    assert chosen.job.reference_tokens == TRAIN.tokens
