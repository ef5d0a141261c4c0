"""`fineline presets`: list the known models and GPU instance types."""

import argparse
import json
from typing import TYPE_CHECKING

from pipelines.shown.arguments import add_json

if TYPE_CHECKING:
    from presets.gpu_preset import GpuPreset

HELP = "list the known models or GPU instance types"
DESCRIPTION = "List the model presets, or the GPU instance types of each cloud with their list prices."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "what", nargs="?", choices=["models", "gpus"], default="models", help="what to list (default: models)"
    )
    add_json(parser)


def execute(parsed: argparse.Namespace) -> int:
    """List the models or the instance types."""
    return _gpus(as_json=parsed.json) if parsed.what == "gpus" else _models(as_json=parsed.json)


def _models(*, as_json: bool) -> int:
    from pipelines.shown.table import print_table
    from presets.model_preset import model_presets

    known = sorted(model_presets().values(), key=lambda preset: (preset.family, preset.architecture.parameters))
    if as_json:
        print(json.dumps([preset.model_dump() for preset in known], indent=2))
        return 0
    rows = [
        (
            p.name if source == next(iter(p.sources)) else f"{p.name}:{source}",
            _count(p.architecture.parameters),
            str(p.architecture.context),
            f"{p.licence}, must be accepted" if p.gated else p.licence,
            "no" if p.cannot_be_tuned else "yes",
        )
        for p in known
        for source in p.sources
    ]
    print_table("models", ["name", "parameters", "context", "licence", "can be tuned"], rows)
    return 0


def _gpus(*, as_json: bool) -> int:
    from pipelines.shown.table import print_table
    from presets.gpu_preset import CLOUDS
    from steps.common.nodes import instance_types

    found = [(cloud, preset) for cloud in CLOUDS for preset in instance_types.of_cloud(cloud)]
    if as_json:
        print(json.dumps([preset.model_dump() | {"cloud": cloud} for cloud, preset in found], indent=2))
        return 0
    for cloud in CLOUDS:
        listed = sorted((p for c, p in found if c == cloud), key=lambda p: (p.on_demand is None, p.on_demand or 0))
        columns = ["instance type", "GPUs", "memory each", "$/h", "$/h spot", "region", "priced on", "not used because"]
        print_table(cloud, columns, [_row(preset) for preset in listed])
    return 0


def _row(preset: "GpuPreset") -> tuple[str, ...]:
    return (
        preset.instance_type,
        f"{preset.gpus} x {preset.gpu}",
        f"{preset.gpu_mib / 1024:.0f} GiB",
        "-" if preset.on_demand is None else f"{preset.on_demand:.2f}",
        "-" if preset.spot is None else f"{preset.spot:.2f}",
        preset.region,
        preset.priced_on,
        preset.why_unfit,
    )


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
