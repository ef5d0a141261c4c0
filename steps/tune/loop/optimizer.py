"""The optimizer, where it is not the Trainer's own: LoRA+ (https://arxiv.org/abs/2402.12354)."""

from typing import Any

from recipes.tuning import Tune


def optimizer(model: Any, arguments: Any, tune: Tune) -> Any:
    """Return AdamW as the Trainer's arguments name it, with a rate of its own for each adapter's second matrix (B).

    Returns:
        None where all rates are the same: the Trainer then makes its own.
    """
    if tune.lora_plus == 1:
        return None
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    return create_loraplus_optimizer(
        model,
        kind,
        loraplus_lr_ratio=tune.lora_plus,
        loraplus_weight_decay=tune.weight_decay,
        **settings,
    )
