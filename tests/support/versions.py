"""Make a registered version by calling the steps in the test process, which imports torch only once."""

import time

from steps.common.handover.resolved import Hardware
from steps.evaluate.step import EvaluateInput, evaluate
from steps.plan.step import PlanInput, plan
from steps.prepare.step import PrepareInput, prepare
from steps.pull.step import PullInput, pull
from steps.register.step import RegisterInput, register
from steps.tune.step import TuneInput, tune


def make_version(recipe: str, run: str) -> int:
    """Run a recipe's steps up to the registered version, and return the version's number."""
    resolved = plan(PlanInput(recipe=recipe, run=run)).resolved
    base = pull(PullInput(model=resolved.model, files="all", run=run)).folder
    rows = prepare(PrepareInput(resolved=resolved, tokenizer_folder=base))
    given = {"resolved": resolved, "base_folder": base, "rows_digest": rows.digest}
    trained = {
        **given,
        "rows_folder": rows.folder,
        "hardware": Hardware(rung=resolved.quote.first, node="", since=time.time()),
    }
    tuned = tune(TuneInput(**trained))
    judged = evaluate(EvaluateInput(**trained, adapter_folder=tuned.adapter_folder))
    assert judged.passed, judged.verdict
    adapter = {"adapter_folder": tuned.adapter_folder, "adapter_sha256": tuned.adapter_sha256}
    return register(RegisterInput(**given, **adapter, report=judged.report)).version
