"""What `plan` hands on: the recipe with every default filled in, every revision a commit, every data file a digest."""

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from presets.architecture import Architecture
from presets.memory import Activations
from recipes.recipe import Recipe
from steps.common.runtime.errors import UserError
from steps.common.storage.files import digest_of, sha256_of


class Fixed(BaseModel):
    """A value that no later step changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KnownModel(Fixed):
    """What a quote needs of a model."""

    name: str
    uri: str  # with its commit or version
    bytes: int  # to fetch
    licence: str
    architecture: Architecture


class ResolvedModel(KnownModel):
    """The base model, pinned."""

    digest: str  # sha256 over the names and hashes of the files
    targets: list[str] = []  # the linear layers that a preset gives an adapter; none: all but the head


class DataFile(Fixed):
    """A file of rows."""

    path: str
    sha256: str
    bytes: int
    source: str = ""  # its pinned URL, where it came from elsewhere


def as_planned(file: DataFile) -> Path:
    """Return where the file is, which has the content that it was planned with.

    Raises:
        UserError: it has another.
    """
    path = Path(file.path)
    if sha256_of(path) != file.sha256:
        raise UserError(f"{path}: changed since the run was planned; start a new run")
    return path


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


class Rung(Fixed):
    """Something to compute on, and how the run would go there."""

    device: Device
    micro_batch_tokens: int
    activations: Activations
    memory_bytes: int  # predicted peak of the tuning, of one GPU
    available_bytes: int
    evaluated_in_4_bits: bool = False  # as it was tuned: in bf16, as it is served, it is too large for the GPU
    host_bytes: int = 0  # of the node's own memory that its pods ask for
    minutes: dict[str, float]  # by leg; an empty one could not be told
    instance_type: str = ""  # empty: machines that are there
    capacity: str = ""  # on-demand, spot
    gpus: int = 0  # that its pods ask for
    processes: int = 1  # that tune side by side, a GPU each
    sharded: bool = False  # the base's layers are dealt out among them: it fits no single GPU
    node_gpus: int = 0  # that the whole node has
    vcpus: int = 0  # of the instance type, which is what quotas count
    accelerator: str = ""  # what GKE calls its GPU
    price: float | None = None  # US dollars an hour; None: not known, or not bought
    price_at_most: float | None = None  # likewise: what holds where the price on spot is not known
    priced_on: str = ""  # the day of the price
    cost: float | None = None  # of the run

    @property
    def name(self) -> str:
        """What it is called in a table, and in a message."""
        return f"{self.instance_type} {self.capacity}" if self.instance_type else self.device.name


class Quote(Fixed):
    """What a run will take, before it starts."""

    ladder: list[Rung]  # what to compute on, in the order in which it is tried; at least one
    steps: int
    tokens: int  # trained on, all epochs
    disk_bytes: int  # that the run will write
    assumptions: list[str]
    provider: str = ""  # karpenter, compute-class, nodes; empty: the steps compute where their pods happen to be
    cloud: str = ""

    @property
    def first(self) -> Rung:
        """What the run is expected to compute on."""
        return self.ladder[0]


class Hardware(Fixed):
    """What a run has got to compute on."""

    rung: Rung
    node: str
    since: float  # when it was there: seconds since 1970
    until: float = 0.0  # when the recipe's max_hours is reached; 0: never
    until_on_node: float = 0.0  # when its max_cost is, on that node: another has another price


class Tracking(Fixed):
    """The MLflow run of this run; no id where nothing is tracked."""

    uri: str
    run_id: str


def made_from(resolved: "Resolved") -> str:
    """Return a digest of all that a version depends on: base commit, data, recipe; not where things lie and go.

    Two runs with the same digest learn the same.
    """
    places: dict[str, Any] = {
        "data": {"train", "validation"},
        "registry": True,
        "evaluate": {"tasks": {"__all__": {"data"}}, "lm_eval": {"__all__": {"include"}}},
    }
    recipe = resolved.recipe.model_dump(mode="json", exclude=places)
    for place in ("serve", "model", "secrets", "compute", "export"):
        recipe.pop(place, None)
    held_out = resolved.data.validation.sha256 if resolved.data.validation else ""
    tasks = [file.sha256 if file else "" for file in [*resolved.tasks, *resolved.lm_eval]]
    return digest_of([resolved.model.digest, resolved.data.train.sha256, held_out, tasks, recipe])


class ServingPlan(Fixed):
    """How a version is served, and therefore evaluated."""

    runtime: Literal["transformers", "vllm"] = "transformers"
    form: Literal["merged", "adapter"] = "merged"
    gpus: int = 0  # of each replica
    replicas: int = 1
    instance_type: str = ""  # of the nodes; empty: any
    gpu: str = ""  # its name, where it is known
    gpu_bytes: int = 0  # memory of one; 0: not known
    needs_bytes: int = 0  # of one, besides the cache
    cache_tokens: int = 0  # that the cache holds; 0: not known
    request_tokens: int = 0  # of a request that is as long as the longest row, with its answer
    longest: int = 0  # tokens of question and answer together; 0: vLLM finds out
    rank: int = 0  # the largest of an adapter, as vLLM takes it
    max_adapters: int = 0  # in memory at once
    arguments: list[str] = []  # of `vllm serve`, that the model's preset has


class Resolved(Fixed):
    """Everything that the later steps need to know of what is wanted."""

    run: str
    recipe: Recipe
    model: ResolvedModel
    data: ResolvedData
    tasks: list[DataFile | None] = []  # of each task of the recipe; none where it asks the held-out rows
    lm_eval: list[DataFile] = []  # of each of lm-eval's tasks in the recipe: packed, with its rows
    quote: Quote
    tracking: Tracking
    code_version: str
    # `served` in the records of earlier releases.
    serving_plan: ServingPlan = Field(default=ServingPlan(), validation_alias=AliasChoices("serving_plan", "served"))
