"""Where the two volumes are mounted: the same two settings in a container and on one machine.

FINELINE_WEIGHTS holds base models, FINELINE_RUNS everything that runs write. Both are folders below `~/.fineline`
unless set.
"""

import os
from pathlib import Path

WEIGHTS_SETTING = "FINELINE_WEIGHTS"
RUNS_SETTING = "FINELINE_RUNS"


def weights() -> Path:
    """Return the folder of the weights volume."""
    return _folder(WEIGHTS_SETTING, "weights")


def runs() -> Path:
    """Return the folder of the runs volume."""
    return _folder(RUNS_SETTING, "runs")


def _folder(setting: str, name: str) -> Path:
    return Path(os.environ.get(setting) or Path.home() / ".fineline" / name).expanduser().absolute()


def published_model(digest: str) -> Path:
    """Folder of a base model that `pull` has published."""
    return weights() / "models" / digest[:16]


def published_tokenizer(digest: str) -> Path:
    """Folder of a base model's tokenizer that `pull` has published ahead of the model."""
    return weights() / "tokenizers" / digest[:16]


def prepared_rows(digest: str) -> Path:
    """Folder of rows that `prepare` has tokenised."""
    return runs() / "prepared" / digest[:16]


def tuning(key: str) -> Path:
    """Folder of one tuning: its checkpoints while it goes on, its adapter when it is done."""
    return runs() / "tunings" / key[:16]


def restored_version(name: str, version: int) -> Path:
    """Folder of a version that was brought back from the registry."""
    return runs() / "restored" / name / str(version)


def merged_model(key: str) -> Path:
    """Folder of a base model with an adapter merged into it."""
    return runs() / "merged" / key[:16]


def exported(name: str, version: int) -> Path:
    """Folder of what a version was exported as."""
    return runs() / "exports" / name / str(version)


def evaluation(key: str) -> Path:
    """File of one evaluation's result."""
    return runs() / "evaluations" / f"{key[:16]}.json"


def serving(name: str) -> Path:
    """Folder of the servers of the model `name`."""
    return runs() / "serving" / name


def run_folder(run: str) -> Path:
    """Folder of one run: its workflow, its steps' logs and outputs."""
    return runs() / "runs" / run
