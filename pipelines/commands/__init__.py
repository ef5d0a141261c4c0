"""What each command does."""

import argparse

from pipelines.machine.execute import RunningError
from pipelines.machine.workflow import UnsupportedError
from recipes.read import RecipeError
from steps.common.errors import UserError

MISTAKES = (UserError, RecipeError, UnsupportedError, RunningError)


def run_command(parsed: argparse.Namespace) -> int:
    """Carry out a parsed command and return its exit code.

    Raises:
        MISTAKES: the user's mistake, in one line.
    """
    if parsed.command == "run":
        from pipelines.commands.run import resume, run

        if parsed.resume:
            return resume(parsed.resume, as_json=parsed.json)
        return run(parsed.recipe, parsed.override, as_json=parsed.json)
    if parsed.command == "plan":
        from pipelines.commands.plan import plan

        return plan(parsed.recipe, parsed.override, as_json=parsed.json)
    from pipelines.commands import show

    if parsed.command == "presets":
        return show.presets(as_json=parsed.json)
    if parsed.command == "schema":
        return show.schema()
    if parsed.command == "runs":
        return show.runs(as_json=parsed.json)
    if parsed.action == "stop":
        return show.stop_serving(parsed.name)
    return show.serving_list(as_json=getattr(parsed, "json", False))
