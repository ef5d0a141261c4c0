"""The paths of what Fineline stores on its two volumes.

FINELINE_WEIGHTS is where the volume of base models is mounted, FINELINE_RUNS that of everything that runs write: in a
container and on one machine alike. They default to folders below `~/.fineline`.
"""

import os
from pathlib import Path

WEIGHTS_SETTING = "FINELINE_WEIGHTS"
RUNS_SETTING = "FINELINE_RUNS"
UPLOADED = "uploaded"  # name, without suffixes, of the files among sent data that the API keeps and deletes


def weights() -> Path:
    """Return the folder of the weights volume."""
    return _folder(WEIGHTS_SETTING, "weights")


def runs() -> Path:
    """Return the folder of the runs volume."""
    return _folder(RUNS_SETTING, "runs")


def _folder(setting: str, name: str) -> Path:
    return Path(os.environ.get(setting) or Path.home() / ".fineline" / name).expanduser().absolute()


def published_model(digest: str) -> Path:
    """Return the folder of a base model that `pull` publishes."""
    return weights() / "models" / digest[:16]


def published_tokenizer(digest: str) -> Path:
    """Return the folder of a base model's tokenizer, which `pull` publishes ahead of the model."""
    return weights() / "tokenizers" / digest[:16]


def sent_data(digest: str) -> Path:
    """Return the folder of a data file that was sent from another machine."""
    return runs() / "data" / digest[:16]


def prepared_rows(digest: str) -> Path:
    """Return the folder of rows that `prepare` tokenises."""
    return runs() / "prepared" / digest[:16]


def tuning(key: str) -> Path:
    """Return the folder of a tuning: its checkpoints while it runs, its adapter when it is finished."""
    return runs() / "tunings" / key[:16]


def restored_version(name: str, version: int, digest: str) -> Path:
    """Return the folder of a version that `restore` downloads from the registry.

    Args:
        name: of the model.
        version: the registered version.
        digest: of its content and origin: with a new registry, version numbers start over.
    """
    return runs() / "restored" / name / f"{version}-{digest[:16]}"


def merged_model(key: str) -> Path:
    """Return the folder of a base model with an adapter merged into it."""
    return runs() / "merged" / key[:16]


def exported(name: str, version: int) -> Path:
    """Return the folder of a version's exports."""
    return runs() / "exports" / name / str(version)


def evaluation(key: str) -> Path:
    """Return the file of an evaluation's result."""
    return runs() / "evaluations" / f"{key[:16]}.json"


def serving(name: str) -> Path:
    """Return the folder of the state of the servers of model `name`."""
    return runs() / "serving" / name


def api_database() -> Path:
    """Return the file of the API's database, unless a setting names another one."""
    return runs() / "api.db"


def api_database_copy() -> Path:
    """Return the file of the copy that the API of a cluster keeps of its database."""
    return runs() / "api-copy.db"


def run_folder(run: str) -> Path:
    """Return the folder of a run: its workflow, and its steps' logs and outputs."""
    return runs() / "runs" / run
