"""The commands that show what is there, and the one that stops a server."""

import json
import time

from pipelines.machine import run_record
from pipelines.machine.run_result import served_line
from pipelines.shown.shell_command import shell_command
from pipelines.shown.table import print_table
from presets.gpu_preset import CLOUDS
from presets.model_preset import model_presets
from recipes.recipe import Recipe
from steps.common.machine import servers
from steps.common.nodes import instance_types
from steps.common.runtime.errors import UserError


def models(*, as_json: bool) -> int:
    """List the model presets."""
    known = sorted(model_presets().values(), key=lambda preset: (preset.family, preset.architecture.parameters))
    if as_json:
        print(json.dumps([preset.model_dump() for preset in known], indent=2))
        return 0
    rows = [
        (
            p.name if source == next(iter(p.sources)) else f"{p.name}:{source}",
            _count(p.architecture.parameters),
            str(p.architecture.context),
            f"{p.licence}, to be accepted" if p.gated else p.licence,
            "no" if p.cannot_be_tuned else "yes",
        )
        for p in known
        for source in p.sources
    ]
    print_table("models", ["name", "parameters", "context", "licence", "tuned"], rows)
    return 0


def gpus(*, as_json: bool) -> int:
    """List the instance types with GPUs, each cloud's by their price."""
    found = [(cloud, preset) for cloud in CLOUDS for preset in instance_types.of_cloud(cloud)]
    if as_json:
        print(json.dumps([preset.model_dump() | {"cloud": cloud} for cloud, preset in found], indent=2))
        return 0
    for cloud in CLOUDS:
        listed = sorted((p for c, p in found if c == cloud), key=lambda p: (p.on_demand is None, p.on_demand or 0))
        rows = [
            (
                p.instance_type,
                f"{p.gpus} x {p.gpu}",
                f"{p.gpu_mib / 1024:.0f} GiB",
                "-" if p.on_demand is None else f"{p.on_demand:.2f}",
                "-" if p.spot is None else f"{p.spot:.2f}",
                p.region,
                p.priced_on,
                p.why_unfit,
            )
            for p in listed
        ]
        columns = ["instance type", "GPUs", "each", "$/h", "on spot", "region", "priced on", "not for us, since"]
        print_table(cloud, columns, rows)
    return 0


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"


def schema() -> int:
    """Print the recipe's JSON Schema."""
    print(json.dumps(Recipe.model_json_schema(), indent=2))
    return 0


def runs(*, as_json: bool) -> int:
    """List the runs."""
    found = run_record.runs()
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
        print(f"no runs yet; begin with: {shell_command('fineline run')}")
        return 0
    print_table("runs", ["run", "started", "phase", "version", "message"], rows)
    return 0


def serving_list(*, as_json: bool) -> int:
    """List what is served, and what is kept of versions that were refused."""
    found = [(gateway, servers.server(name)) for name in servers.names() if (gateway := servers.gateway(name))]
    refused = [kept for name in servers.names() if (kept := servers.refused(name))]
    if as_json:
        looked_at = {one.name: one.model_dump() for one in refused}
        listed = [
            {"name": g.name, "url": g.url, "server": s.model_dump() if s else None, "refused": looked_at.get(g.name)}
            for g, s in found
        ]
        print(json.dumps(listed, indent=2))
        return 0
    if found:
        columns = ["model", "version", "url", "state"]
        print_table("served models", columns, [served_line(g, s, time.time()) for g, s in found])
        for server in (s for _, s in found if s):
            # Not in the table: a terminal's width would break them.
            lineage = f"adapter {server.adapter_sha256[:12]}, run {server.run}, base {server.base}"
            print(f"{server.name} version {server.version}: {lineage}")
    else:
        print(f"nothing is served; '{shell_command('fineline run')}' serves a model when it is done")
    for one in refused:
        print(f"{one.name} version {one.version} was refused: {one.reason}")
        print(
            f"its log and its command: {one.folder}; delete them: {shell_command(f'fineline serving clean {one.name}')}"
        )
    return 0


def clean_serving(name: str) -> int:
    """Delete what is kept of refused versions.

    Raises:
        UserError: nothing is kept of a model of that name.
    """
    cleaned = [known for known in servers.names() if name in ("", known) and servers.forget_refused(known)]
    if name and not cleaned:
        raise UserError(f"nothing is kept of a refused version of {name!r}")
    print(f"deleted: {', '.join(cleaned)}" if cleaned else "nothing was kept")
    return 0


def stop_serving(name: str) -> int:
    """Stop a model's server and gateway.

    Raises:
        UserError: nothing of that name is served, or there are several and none is named.
    """
    served = [known for known in servers.names() if servers.gateway(known) or servers.server(known)]
    if not name and len(served) != 1:
        raise UserError(f"name the model to stop: {', '.join(served)}" if served else "nothing is served")
    name = name or served[0]
    if name not in served:
        raise UserError(f"no model {name!r} is served" + (f"; served are {', '.join(served)}" if served else ""))
    servers.stop(name)
    print(f"{name} is stopped; its versions stay registered")
    return 0
