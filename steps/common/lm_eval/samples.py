"""Asks a model what packed tasks ask."""

from typing import Any

from steps.common.lm_eval.pack import PackedRequest


def samples(model: Any, tasks: dict[str, Any], asked: PackedRequest, *, chat_template: bool) -> list[dict[str, Any]]:
    """Return each row's sample as lm-eval logs it, once for each of its filters: the rows in their order.

    Args:
        model: one of lm-eval's.
        tasks: by name; see `load`.
        asked: which rows.
        chat_template: ask under the model's own.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.evaluator import evaluate

    for task in tasks.values():
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    found = evaluate(
        model,
        {"tasks": tasks},
        samples=asked.rows,
        bootstrap_iters=0,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=True,
    )
    return [sample for name in asked.rows for sample in found["samples"][name]]
