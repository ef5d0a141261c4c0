"""What `plan` hands on: the recipe with every default filled in, every revision a commit, every data file a digest."""

from pydantic import BaseModel, ConfigDict

from presets.model_preset import Architecture
from recipes.recipe import Recipe
from steps.common.files import digest_of


class Fixed(BaseModel):
    """A value that no later step changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResolvedModel(Fixed):
    """The base model, pinned."""

    name: str
    uri: str  # with its commit or version
    digest: str  # sha256 over the names and hashes of the files
    bytes: int  # to fetch
    licence: str
    architecture: Architecture


class DataFile(Fixed):
    """A file of rows."""

    path: str
    sha256: str
    bytes: int
    source: str = ""  # its pinned URL, where it came from elsewhere


class ResolvedData(Fixed):
    """The training rows, and the held-out rows where they have a file of their own."""

    train: DataFile
    validation: DataFile | None


class Device(Fixed):
    """What computes."""

    kind: str  # "cpu" or "cuda"
    name: str
    count: int  # cores, or GPUs
    memory_bytes: int  # of the machine, or of one GPU


class Quote(Fixed):
    """What a run will take, before it starts."""

    device: Device
    memory_bytes: int  # predicted peak of the tuning
    available_bytes: int
    micro_batch_tokens: int
    recompute: bool
    steps: int
    tokens: int  # trained on, all epochs
    minutes: dict[str, float]  # by leg; an empty one could not be told
    disk_bytes: int  # that the run will write
    assumptions: list[str]


class Tracking(Fixed):
    """The MLflow run of this run; no id where nothing is tracked."""

    uri: str
    run_id: str


def made_from(resolved: "Resolved") -> str:
    """Return a digest of all that a version depends on: base commit, data, recipe; not where things lie or are served.

    Two runs with the same digest learn the same.
    """
    recipe = resolved.recipe.model_dump(mode="json", exclude={"data": {"train", "validation"}, "registry": True})
    for place in ("serve", "model", "secrets"):
        recipe.pop(place, None)
    held_out = resolved.data.validation.sha256 if resolved.data.validation else ""
    return digest_of([resolved.model.digest, resolved.data.train.sha256, held_out, recipe])


class Resolved(Fixed):
    """Everything that the later steps need to know of what is wanted."""

    run: str
    recipe: Recipe
    model: ResolvedModel
    data: ResolvedData
    quote: Quote
    tracking: Tracking
    code_version: str
