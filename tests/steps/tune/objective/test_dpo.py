"""The DPO loss matches the paper's, however pairs are packed and however a step is cut into micro-batches."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.tuning import Tune
from steps.common.model.pair_packs import TokenPair
from steps.tune.objective.dpo import DpoObjective
from tests.support.pairs import token_pair

CPU = torch.device("cpu")
BETA = 0.3


@pytest.fixture
def model(tiny_model: Path) -> Any:
    """The tiny model with an adapter that has an effect."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return tuned


@pytest.fixture
def pairs() -> list[TokenPair]:
    generator = torch.Generator().manual_seed(5)

    def some(count: int) -> list[int]:
        return torch.randint(5, 300, (count,), generator=generator).tolist()

    lengths = [(4, 6, 3), (7, 2, 9), (3, 5, 5), (9, 4, 1), (5, 8, 2)]
    return [token_pair(n, some(given), some(yes), some(no)) for n, (given, yes, no) in enumerate(lengths)]


def objective(**settings: Any) -> DpoObjective:
    return DpoObjective(Tune(objective="dpo", beta=BETA, **settings), packed=True)


def answer(model: Any, pair: TokenPair, side: int) -> tuple[float, int]:
    """The log-probability of an answer from transformers' own logits, computed on that side alone, and its token count."""
    row = pair.sides[side]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].float()
    of_next = logits.log_softmax(-1).gather(1, torch.tensor(row.input_ids[1:])[:, None])[:, 0]
    labelled = torch.tensor([label >= 0 for label in row.labels[1:]])
    return float(of_next[labelled].sum()), int(labelled.sum())


def by_hand(model: Any, pair: TokenPair, sft_weight: float = 0.0) -> float:
    """Equation 7 of https://arxiv.org/abs/2305.18290 for one pair, in plain Python."""
    (chosen, length), (rejected, _) = answer(model, pair, 0), answer(model, pair, 1)
    with model.disable_adapter():
        (chosen_before, _), (rejected_before, _) = answer(model, pair, 0), answer(model, pair, 1)
    margin = BETA * ((chosen - chosen_before) - (rejected - rejected_before))
    return math.log(1 + math.exp(-margin)) - sft_weight * chosen / length


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("sft_weight", [0.0, 0.5])
def test_the_loss_of_each_pair_is_the_papers(model: Any, pairs: list[TokenPair], sft_weight: float) -> None:
    for pair in pairs:
        ours = objective(sft_weight=sft_weight).loss(model, [pair], CPU)
        assert ours.item() == pytest.approx(by_hand(model, pair, sft_weight), abs=1e-5)


def test_packed_or_separate_rows_have_the_same_loss_and_gradient(model: Any, pairs: list[TokenPair]) -> None:
    together = objective().loss(model, pairs, CPU)
    together.backward()
    packed = gradient(model)
    model.zero_grad()
    apart = DpoObjective(Tune(objective="dpo", beta=BETA), packed=False).loss(model, pairs, CPU)
    apart.backward()
    assert together.item() == pytest.approx(sum(by_hand(model, pair) for pair in pairs), abs=1e-4)
    assert apart.item() == pytest.approx(together.item(), abs=1e-5)
    assert torch.allclose(packed, gradient(model), atol=1e-5)


def test_a_new_adapter_has_no_preference(tiny_model: Path, pairs: list[TokenPair]) -> None:
    from steps.tune.adapted_model import load_adapted_model

    model, _ = load_adapted_model(tiny_model, Tune(method="lora"), "cpu", activations="recomputed")
    model.train()
    loss = objective()
    assert loss.loss(model, pairs, CPU).item() == pytest.approx(len(pairs) * math.log(2), abs=1e-6)
    assert model.training
    assert loss.pop_metrics() == {"reward_margin": 0.0, "reward_accuracy": 0.0}


def test_the_reference_is_computed_once_per_pair(model: Any, pairs: list[TokenPair]) -> None:
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    loss = objective()
    first = loss.loss(model, pairs[:3], CPU).item()
    assert loss.loss(model, pairs[:3], CPU).item() == first
    loss.loss(model, pairs[2:4], CPU)
    assert calls == [False, True, True, False, True]


def test_margins_are_summed_over_the_pairs_since_the_last_call(model: Any, pairs: list[TokenPair]) -> None:
    loss = objective()
    loss.loss(model, pairs[:2], CPU)
    loss.pop_metrics()
    loss.loss(model, pairs[2:3], CPU)
    loss.loss(model, pairs[3:], CPU)
    loss.loss(model, pairs[3:], CPU)  # again, as when a step is repeated after running out of memory
    margins = [-math.log(math.exp(by_hand(model, pair)) - 1) for pair in pairs[2:]]
    metrics = loss.pop_metrics()
    assert metrics["reward_margin"] == pytest.approx(sum(margins), abs=1e-4)
    assert metrics["reward_accuracy"] == sum(margin > 0 for margin in margins)
    assert loss.pop_metrics() == {"reward_margin": 0.0, "reward_accuracy": 0.0}


def test_running_out_of_memory_in_the_reference_pass_leaves_the_model_unchanged(
    model: Any, pairs: list[TokenPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    model.train()
    loss = objective()
    with monkeypatch.context() as context:
        context.setattr("steps.tune.objective.dpo.log_probabilities", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            loss.loss(model, pairs, CPU)
    assert model.training
    assert loss.loss(model, pairs[:1], CPU).item() == pytest.approx(by_hand(model, pairs[0]), abs=1e-5)


def test_a_mean_over_pairs_does_not_depend_on_the_micro_batches(model: Any, pairs: list[TokenPair]) -> None:
    gradients = []
    for packs in ([pairs], [pairs[:1], pairs[1:2], pairs[2:4], pairs[4:]]):
        loss = objective()
        items = sum(loss.item_count(pack) for pack in packs)
        model.zero_grad()
        for pack in packs:
            (loss.loss(model, pack, CPU) / items).backward()
        gradients.append(gradient(model))
    padded, packed = gradients
    assert torch.allclose(padded, packed, atol=1e-6)


def step_of(model: Any, packs: list[list[TokenPair]], folder: Path) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient and the logged metrics of the first optimizer step, from StepTrainer."""
    from transformers import TrainerCallback, TrainingArguments

    from steps.tune.distributed.base_placement import ReplicatedBase
    from steps.tune.distributed.process_group import ProcessGroup
    from steps.tune.loop.held_out import HeldOutEvaluation
    from steps.tune.loop.stop_conditions import StopConditions
    from steps.tune.loop.token_budget import TokenBudget
    from steps.tune.loop.trainer import StepTrainer
    from steps.tune.loop.training_setup import TrainingSetup

    seen: list[torch.Tensor] = []

    class RecordGradient(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            seen.append(gradient(model))

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=1,
        per_device_train_batch_size=1,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    setup = TrainingSetup(
        model=model,
        steps=[packs],
        objective=objective(),
        held_out=HeldOutEvaluation([], objective(), 1, Tune(objective="dpo"), 1, folder),
        tune=Tune(objective="dpo"),
        checkpoints=folder,
        device="cpu",
        group=ProcessGroup(),
        base=ReplicatedBase(),
        budget=TokenBudget(10_000, 0, lambda: 0, lambda _: None),
        stop=StopConditions(),
        log_metrics=lambda *_: None,
        heartbeat=lambda: None,
    )
    trainer = StepTrainer(setup, args=arguments, callbacks=[RecordGradient()])
    trainer.pop_callback("PrinterCallback")
    trainer.train()
    return seen[0], trainer.state.log_history[0]


def test_a_step_is_the_same_in_one_micro_batch_or_in_four(model: Any, pairs: list[TokenPair], tmp_path: Path) -> None:
    from copy import deepcopy

    four = [pairs[:1], pairs[1:2], pairs[2:4], pairs[4:]]
    whole, logged = step_of(deepcopy(model), [pairs], tmp_path / "one")
    cut, same = step_of(deepcopy(model), four, tmp_path / "four")
    assert torch.allclose(whole, cut, atol=1e-6)
    assert whole.abs().max() > 1e-3
    assert logged["loss"] == pytest.approx(sum(by_hand(model, pair) for pair in pairs) / len(pairs), abs=1e-4)
    for name in ("loss", "reward_margin", "reward_accuracy"):
        assert same[name] == pytest.approx(logged[name], abs=1e-4)
