"""LoRA+ (https://arxiv.org/abs/2402.12354): a higher learning rate for each adapter's second matrix (B)."""

from typing import Any

from recipes.tuning import Tune


def lora_plus_optimizer(model: Any, arguments: Any, tune: Tune) -> Any:
    """Return the optimizer that the Trainer's arguments name, with LoRA+'s learning rates.

    Args:
        model: the PEFT model.
        arguments: transformers' `TrainingArguments`.
        tune: `lora_plus` is the ratio of the two learning rates.

    Returns:
        None if the ratio is 1: the Trainer then creates its own optimizer.
    """
    if tune.lora_plus == 1:
        return None
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer

    optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    return create_loraplus_optimizer(
        model,
        optimizer_class,
        loraplus_lr_ratio=tune.lora_plus,
        loraplus_weight_decay=tune.weight_decay,
        **settings,
    )
