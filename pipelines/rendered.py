"""The manifests that this code gives: what a cluster gets, file by file."""

from collections.abc import Callable
from pathlib import Path

from hera.workflows import CronWorkflow, WorkflowTemplate

from pipelines import cache, finetune, retrain, rollback

FOLDER = Path("base") / "workflows"
HEADER = "# Rendered by `fineline render` from {module}; change that, not this.\n"
BUILDERS: dict[str, Callable[[], WorkflowTemplate | CronWorkflow]] = {
    "cache": cache.build,
    "finetune": finetune.build,
    "retrain": retrain.build,
    "retrain-cron": retrain.cron,
    "rollback": rollback.build,
}


def manifests() -> dict[Path, str]:
    """Return the text of every rendered file, by its path below `argo/`."""
    return {
        FOLDER / f"{name}.yaml": HEADER.format(module=build.__module__.replace(".", "/") + ".py") + build().to_yaml()
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
    extra = {path.relative_to(folder) for path in (folder / FOLDER).glob("*.yaml")} - wanted.keys()
    return told + [f"{folder / path} is rendered by nothing" for path in sorted(extra)]


def write(folder: Path) -> list[Path]:
    """Write every file below `folder`, remove those that are rendered no more, and return what is there now."""
    wanted = manifests()
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for old in (folder / FOLDER).glob("*.yaml"):
        if old.relative_to(folder) not in wanted:
            old.unlink()
    for path, text in wanted.items():
        (folder / path).write_text(text)
    return [folder / path for path in wanted]
