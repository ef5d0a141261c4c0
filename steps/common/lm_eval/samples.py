"""Runs packed tasks on a model."""

from typing import Any

from steps.common.lm_eval.pack import PackedRequest


def run_samples(
    model: Any, tasks: dict[str, Any], request: PackedRequest, *, chat_template: bool
) -> list[dict[str, Any]]:
    """Return lm-eval's sample of each row, one for each filter of the task, in the order of the rows.

    Args:
        model: one of lm-eval's.
        tasks: by name; see `load_tasks`.
        request: which rows to ask.
        chat_template: ask under the model's own chat template.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.evaluator import evaluate

    for task in tasks.values():
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    results = evaluate(
        model,
        {"tasks": tasks},
        samples=request.rows,
        bootstrap_iters=0,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=True,
    )
    return [sample for name in request.rows for sample in results["samples"][name]]
