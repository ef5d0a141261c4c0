"""The commands that show what is there, and the one that stops a server."""

import json
import time

from pipelines.commands.result import served_line
from pipelines.commands.table import print_table
from pipelines.commands.typed import command
from pipelines.machine import record
from presets.model_preset import model_presets
from recipes.recipe import Recipe
from steps.common import serving
from steps.common.errors import UserError


def presets(*, as_json: bool) -> int:
    """List the model presets."""
    known = model_presets().values()
    if as_json:
        print(json.dumps([preset.model_dump() for preset in known], indent=2))
        return 0
    rows = [
        (
            f"{p.name}:{source}",
            f"{p.architecture.parameters / 1e6:.0f}M",
            str(p.architecture.context),
            p.licence,
        )
        for p in known
        for source in p.sources
    ]
    print_table("models", ["name", "parameters", "context", "licence"], rows)
    return 0


def schema() -> int:
    """Print the recipe's JSON Schema."""
    print(json.dumps(Recipe.model_json_schema(), indent=2))
    return 0


def runs(*, as_json: bool) -> int:
    """List the runs."""
    found = record.runs()
    if as_json:
        print(json.dumps([{**run.model_dump(mode="json"), "phase": run.state().value} for run in found], indent=2))
        return 0
    rows = []
    for run in found:
        version = run.outputs("register").get("version", "")
        rows.append(
            (
                run.name,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)),
                run.state().value,
                version,
                run.message,
            )
        )
    if not rows:
        print(f"no runs yet; begin with: {command('fineline run')}")
        return 0
    print_table("runs", ["run", "started", "phase", "version", "message"], rows)
    return 0


def serving_list(*, as_json: bool) -> int:
    """List what is served."""
    found = [(gateway, serving.server(name)) for name in serving.names() if (gateway := serving.gateway(name))]
    if as_json:
        listed = [{"name": g.name, "url": g.url, "server": s.model_dump() if s else None} for g, s in found]
        print(json.dumps(listed, indent=2))
    elif not found:
        print(f"nothing is served; '{command('fineline run')}' serves a model when it is done")
    else:
        print_table(
            "served models", ["model", "version", "url", "state"], [served_line(g, s, time.time()) for g, s in found]
        )
    return 0


def stop_serving(name: str) -> int:
    """Stop a model's server and gateway.

    Raises:
        UserError: nothing of that name is served, or there are several and none is named.
    """
    served = [known for known in serving.names() if serving.gateway(known) or serving.server(known)]
    if not name and len(served) != 1:
        raise UserError(f"name the model to stop: {', '.join(served)}" if served else "nothing is served")
    name = name or served[0]
    if name not in served:
        raise UserError(f"no model {name!r} is served" + (f"; served are {', '.join(served)}" if served else ""))
    serving.stop(name)
    print(f"{name} is stopped; its versions stay registered")
    return 0
