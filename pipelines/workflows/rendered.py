"""The manifests rendered from this code, file by file."""

from collections.abc import Callable
from pathlib import Path

from hera.workflows import CronWorkflow, WorkflowTemplate

from pipelines.workflows import (
    backup,
    cache,
    finetune,
    prune,
    reaper,
    receive,
    recover,
    retrain,
    rollback,
    stop_serving,
)

BASE = Path("base") / "workflows"
NODES, API = (Path("components") / component / "workflows" for component in ("nodes", "api"))
HEADER = "# Rendered by `fineline render` from {module}. Edit that file, not this one.\n"
BUILDERS: dict[str, Callable[[], WorkflowTemplate | CronWorkflow]] = {
    "backup": backup.build,
    "cache": cache.build,
    "finetune": finetune.build,
    "prune": prune.build,
    "prune-cron": prune.cron,
    "reaper": reaper.build,
    "reaper-cron": reaper.cron,
    "receive": receive.build,
    "recover": recover.build,
    "recover-cron": recover.cron,
    "retrain": retrain.build,
    "retrain-cron": retrain.cron,
    "rollback": rollback.build,
    "stop-serving": stop_serving.build,
}


# Outside the base: the reaper is only needed where nodes are bought, and one is only started by the API.
FOLDERS = {"reaper": NODES, "reaper-cron": NODES, "stop-serving": API}


def manifests() -> dict[Path, str]:
    """Return the text of every rendered file by its path below `argo/`."""
    return {
        FOLDERS.get(name, BASE) / f"{name}.yaml": HEADER.format(module=build.__module__.replace(".", "/") + ".py")
        + build().to_yaml()
        for name, build in BUILDERS.items()
    }


def differences(folder: Path) -> list[str]:
    """Return the differences between `folder` and the code, one line each."""
    expected = manifests()
    found = []
    for path, text in expected.items():
        file = folder / path
        if not file.exists():
            found.append(f"{file} is missing")
        elif file.read_text() != text:
            found.append(f"{file} differs from the code")
    extra = _existing(folder) - expected.keys()
    return found + [f"{folder / path} is not rendered from the code" for path in sorted(extra)]


def write(folder: Path) -> list[Path]:
    """Write every file below `folder`, delete outdated ones, and return the paths of the files."""
    expected = manifests()
    for old in _existing(folder) - expected.keys():
        (folder / old).unlink()
    for path, text in expected.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in expected]


def _existing(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for place in (BASE, NODES, API) for path in (folder / place).glob("*.yaml")}
