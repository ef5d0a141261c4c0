"""The manifests that this code gives: what a cluster gets, file by file."""

from collections.abc import Callable
from pathlib import Path

from hera.workflows import CronWorkflow, WorkflowTemplate

from pipelines.workflows import cache, finetune, reaper, retrain, rollback

BASE, NODES = Path("base") / "workflows", Path("components") / "nodes" / "workflows"
HEADER = "# Rendered by `fineline render` from {module}; change that, not this.\n"
BUILDERS: dict[str, Callable[[], WorkflowTemplate | CronWorkflow]] = {
    "cache": cache.build,
    "finetune": finetune.build,
    "reaper": reaper.build,
    "reaper-cron": reaper.cron,
    "retrain": retrain.build,
    "retrain-cron": retrain.cron,
    "rollback": rollback.build,
}


# What goes elsewhere than into the base: the reaper has something to do only where nodes are bought.
FOLDERS = {"reaper": NODES, "reaper-cron": NODES}


def manifests() -> dict[Path, str]:
    """Return the text of every rendered file, by its path below `argo/`."""
    return {
        FOLDERS.get(name, BASE) / f"{name}.yaml": HEADER.format(module=build.__module__.replace(".", "/") + ".py")
        + build().to_yaml()
        for name, build in BUILDERS.items()
    }


def differences(folder: Path) -> list[str]:
    """Return, in words, what is not in `folder` as this code gives it."""
    wanted = manifests()
    told = []
    for path, text in wanted.items():
        file = folder / path
        if not file.exists():
            told.append(f"{file} is missing")
        elif file.read_text() != text:
            told.append(f"{file} differs from the code")
    extra = _there(folder) - wanted.keys()
    return told + [f"{folder / path} is rendered by nothing" for path in sorted(extra)]


def write(folder: Path) -> list[Path]:
    """Write every file below `folder`, remove those that are rendered no more, and return what is there now."""
    wanted = manifests()
    for old in _there(folder) - wanted.keys():
        (folder / old).unlink()
    for path, text in wanted.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in wanted]


def _there(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for place in (BASE, NODES) for path in (folder / place).glob("*.yaml")}
