"""The output of `plan`: the recipe with every default filled in, every revision a commit, every data file a digest."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from presets.architecture import Architecture
from presets.memory import Activations
from recipes.recipe import Recipe
from steps.common.runtime.errors import UserError
from steps.common.storage.files import digest_of, sha256_of
from steps.common.storage.record import Record, Upgrade


class Fixed(BaseModel):
    """An immutable value that one step hands to another."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KnownModel(Fixed):
    """The facts about a model that a quote needs."""

    name: str
    uri: str  # including commit or version
    bytes: int  # to download
    licence: str
    architecture: Architecture


class ResolvedModel(KnownModel):
    """The base model, pinned."""

    digest: str  # SHA-256 over the names and hashes of the files
    targets: list[str] = []  # linear layers that get an adapter according to the preset; empty: all but the head


class DataFile(Fixed):
    """A file of rows."""

    path: str
    sha256: str
    bytes: int
    source: str = ""  # its pinned URL, if it was downloaded


def as_planned(file: DataFile) -> Path:
    """Return the path of a file after checking that its content has not changed since the plan.

    Raises:
        UserError: the content has changed.
    """
    path = Path(file.path)
    if sha256_of(path) != file.sha256:
        raise UserError(f"{path}: changed since the run was planned; start a new run")
    return path


class DataSource(Fixed):
    """Where rows come from: a file, or those of a folder, a pattern or a list, with its place in a mixture."""

    source: str  # as the recipe has it, without secrets
    files: list[DataFile]
    weight: float = 1.0  # how many times each row is seen per epoch; below 1: this portion of the rows
    share: float | None = None  # portion of the training rows; None: decided by the weights

    @property
    def sha256(self) -> str:
        """Digest of the rows: for one file with the default weight, the file's."""
        return rows_sha256([self])

    @property
    def in_words(self) -> str:
        """Where the rows are, and their part in a mixture."""
        files = self.files
        where = files[0].path if len(files) == 1 else f"{self.source} ({len(files)} files)"
        if self.share is not None:
            return f"{where}, {self.share:.0%} of the rows"
        return where if self.weight == 1 else f"{where}, {self.weight:g} times per epoch"


def is_mixture(sources: list[DataSource]) -> bool:
    """Return whether some rows are seen more or less often than once."""
    return any(source.weight != 1 or source.share is not None for source in sources)


def rows_sha256(sources: list[DataSource]) -> str:
    """Return a digest over the content of all files, and over the mixture if there is one.

    A single file with the default weight has its own SHA-256. How files are grouped matters only in a mixture, and their names
    do not matter.
    """
    if is_mixture(sources):
        return digest_of([[one.weight, one.share, [file.sha256 for file in one.files]] for one in sources])
    found = [file.sha256 for source in sources for file in source.files]
    return found[0] if len(found) == 1 else digest_of(found) if found else ""


class ResolvedData(Fixed):
    """The sources of the training rows, and those of the held-out rows if they have any of their own."""

    train: list[DataSource]
    validation: list[DataSource] = []

    @property
    def train_sha256(self) -> str:
        """Digest of the training rows."""
        return rows_sha256(self.train)

    @property
    def validation_sha256(self) -> str:
        """Digest of the held-out rows; empty if a share of the training rows is held out."""
        return rows_sha256(self.validation)

    @property
    def content(self) -> dict[str, dict[str, str | int] | None]:
        """The digests and sizes of the rows, for a digest of what is made from them."""
        sides = {"train": self.train, "validation": self.validation}
        return {
            name: {"sha256": rows_sha256(side), "bytes": sum(file.bytes for one in side for file in one.files)}
            if side
            else None
            for name, side in sides.items()
        }


class Device(Fixed):
    """A CPU or a set of GPUs."""

    kind: str  # "cpu" or "cuda"
    name: str
    count: int  # cores, or GPUs
    memory_bytes: int  # of the machine, or of one GPU


class Rung(Fixed):
    """Hardware for a run, and what the run would take on it."""

    device: Device
    micro_batch_tokens: int
    activations: Activations
    memory_bytes: int  # predicted peak of the tuning, per GPU
    available_bytes: int
    evaluated_in_4_bits: bool = False  # as tuned, because bf16, as served, does not fit on the GPU
    host_bytes: int = 0  # node memory that its pods need
    minutes: dict[str, float]  # by leg
    instance_type: str = ""  # empty: existing machines
    capacity: str = ""  # on-demand, spot
    gpus: int = 0  # that its pods request
    processes: int = 1  # that tune in parallel, one per GPU
    sharded: bool = False  # the base is sharded across the processes because it fits on no single GPU
    node_gpus: int = 0  # of the whole node
    vcpus: int = 0  # of the instance type; quotas count them
    node_bytes: int = 0  # memory of the whole node; 0: unknown
    accelerator: str = ""  # name of its GPU in GKE
    price: float | None = None  # US dollars per hour; None: unknown, or not bought
    price_at_most: float | None = None  # US dollars per hour: the on-demand price if the spot price is unknown
    priced_on: str = ""  # day of the price
    cost: float | None = None  # US dollars for the run

    @property
    def name(self) -> str:
        """Name in tables and messages."""
        return f"{self.instance_type} {self.capacity}" if self.instance_type else self.device.name


class Quote(Fixed):
    """Prediction of what a run will take."""

    ladder: list[Rung]  # hardware in the order in which it is tried; at least one
    steps: int
    tokens: int  # trained on in all epochs
    disk_bytes: int  # that the run will write
    assumptions: list[str]
    provider: str = ""  # karpenter, compute-class or nodes; empty: the steps compute where their pods run
    cloud: str = ""

    @property
    def first(self) -> Rung:
        """The hardware that the run is expected to use."""
        return self.ladder[0]

    @property
    def training(self) -> str:
        """The tokens and steps in words."""
        return f"{self.tokens} tokens in {self.steps} step{'s' if self.steps != 1 else ''}"


class Hardware(Fixed):
    """The hardware that a run has obtained."""

    rung: Rung
    node: str
    since: float  # Unix time at which it was ready
    until: float = 0.0  # Unix time at which max_hours is reached; 0: never
    until_on_node: float = (
        0.0  # Unix time at which max_cost is reached on this node; a different node has a different price
    )


class Tracking(Fixed):
    """The MLflow record of a run; without a run_id if nothing is tracked."""

    uri: str
    run_id: str


class ServingPlan(Fixed):
    """How a version is served, and therefore evaluated."""

    runtime: Literal["transformers", "vllm"] = "transformers"
    form: Literal["merged", "adapter"] = "merged"
    gpus: int = 0  # per replica
    replicas: int = 1
    instance_type: str = ""  # of the nodes; empty: any
    gpu: str = ""  # its name, if known
    gpu_bytes: int = 0  # memory of one GPU; 0: unknown
    needs_bytes: int = 0  # memory needed on one GPU, without the cache
    cache_tokens: int = 0  # that the cache holds; 0: unknown
    request_tokens: int = 0  # of the longest row with its answer
    longest: int = 0  # tokens of prompt and answer together; 0: vLLM determines it
    rank: int = 0  # largest adapter rank, as vLLM supports it; 0: merged
    max_adapters: int = 0  # in memory at once
    arguments: list[str] = []  # of `vllm serve`, from the model preset and `ResolvedChat`


# Options of `vllm serve` for calls of tools; they change neither the prompt nor what the model generates.
ENABLE_TOOLS, TOOL_PARSER = "--enable-auto-tool-choice", "--tool-call-parser="


class ResolvedChat(Fixed):
    """How the model is asked, in preparation, evaluation and serving: what the recipe sets, laid over the preset's."""

    template_arguments: dict[str, bool | int | float | str] = {}
    tool_parser: str = ""  # vLLM's; empty: none
    end_of_turn: str = ""  # token that ends an answer according to the preset; empty: not known

    @property
    def vllm_arguments(self) -> list[str]:
        """Options of `vllm serve`."""
        found = []
        if self.template_arguments:
            found.append(f"--default-chat-template-kwargs={json.dumps(self.template_arguments)}")
        if self.tool_parser:
            found += [ENABLE_TOOLS, f"{TOOL_PARSER}{self.tool_parser}"]
        return found


PORT_OF_0_1_0 = 8360  # the fixed default of `serve.port`, which every resolved recipe of 0.1.0 has


def _from_0_1_0(content: dict[str, Any]) -> dict[str, Any]:
    """Rename `served`, and drop the port that 0.1.0 filled in: as of schema 1, a port is what the user has set."""
    renamed = {"serving_plan" if key == "served" else key: value for key, value in content.items()}
    recipe = content.get("recipe", {})
    serve = recipe.get("serve", {})
    if serve.get("port") == PORT_OF_0_1_0:
        renamed["recipe"] = {**recipe, "serve": {key: value for key, value in serve.items() if key != "port"}}
    return renamed


def _with_sources(content: dict[str, Any]) -> dict[str, Any]:
    """Turn each single file of rows, which was all that schema 1 knew, into a source."""

    def source(file: Any) -> Any:
        return (
            {"source": file.get("source") or file.get("path", ""), "files": [file]} if isinstance(file, dict) else file
        )

    data = content.get("data")
    sides = {}
    if isinstance(data, dict):
        sides = {name: [source(data[name])] if data.get(name) else [] for name in ("train", "validation")}
    return {**content, "data": sides, "tasks": [source(file) for file in content.get("tasks", [])]}


class Resolved(Fixed, Record):
    """Everything that the later steps need to know about the run. The registry stores it with every version."""

    upgrades: ClassVar[dict[int, Upgrade]] = {0: _from_0_1_0, 1: _with_sources}

    schema_version: int = 2
    run: str
    recipe: Recipe
    model: ResolvedModel
    chat: ResolvedChat = ResolvedChat()
    data: ResolvedData
    tasks: list[DataSource | None] = []  # one per task of the recipe; None for the held-out rows
    lm_eval: list[DataFile] = []  # one per lm-eval task of the recipe: packed, with its rows
    quote: Quote
    tracking: Tracking
    code_version: str
    serving_plan: ServingPlan = ServingPlan()

    @model_validator(mode="before")
    @classmethod
    def _stored(cls, content: Any) -> Any:
        # As a step's parameter too: a run that is resumed on one machine may have been planned by an earlier release.
        is_stored = isinstance(content, dict) and isinstance(content.get("recipe"), dict)
        return cls.upgraded(content, "the resolved recipe") if is_stored else content
