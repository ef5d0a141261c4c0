"""The recipe: everything that a user can want of a run, in one typed model.

Unknown keys are errors; `recipes.read` turns them into one line with the nearest known key.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$")]


class Part(BaseModel):
    """A part of the recipe: unknown keys are refused, and numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Part):
    """The rows to learn from. JSONL, CSV or Parquet; their form is told apart by their columns."""

    train: str = Field(
        description="File of training rows: a path, which if relative starts at the recipe's folder, https://…, "
        "s3://BUCKET/KEY or hf://datasets/ORG/NAME[@REVISION]/PATH."
    )
    validation: str = Field(
        default="", description="File of held-out rows, likewise. Empty: a share of the training rows."
    )
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Share held out where no file is given.")
    on_bad_row: Literal["stop", "skip"] = Field(
        default="stop", description="A row that cannot be used stops the run, or is skipped and counted."
    )
    max_tokens: int = Field(
        default=1024, ge=8, description="A row longer than this is a bad row; none is cut silently."
    )


class Tune(Part):
    """How the adapter is learnt."""

    method: Literal["qlora", "lora"] = Field(
        default="qlora", description="qlora: base in 4 bits (NF4, double quantisation). lora: base in bf16."
    )
    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak; about ten times that of full tuning.")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    batch_tokens: int = Field(default=8192, ge=8, description="Tokens in an optimizer step, all rows together.")
    rank: int = Field(default=16, ge=1, le=512, description="Rank of the adapter.")
    alpha: float = Field(default=32, gt=0, description="The adapter's scale is alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="On the adapter's input.")
    targets: list[str] = Field(
        default=[], description="Names of the linear layers that get an adapter. Empty: all but the head."
    )
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=20, ge=1, description="Optimizer steps between two checkpoints.")
    seed: int = Field(default=17, ge=0)


class Question(Part):
    """A question asked of base and candidate, and over HTTP of the server."""

    ask: str = Field(min_length=1)
    expect: str = Field(default="", description="Text that a right answer contains, upper and lower case alike.")


class Evaluate(Part):
    """What is asked of the models besides the held-out rows."""

    questions: list[Question] = Field(default=[], description="Asked of every model; also the server's smoke test.")
    sample_rows: int = Field(default=4, ge=0, description="Held-out rows answered side by side.")
    answer_tokens: int = Field(default=64, ge=1, le=4096, description="Longest answer.")


class Gate(Part):
    """What a candidate must show to be registered as champion."""

    better_than_base: float = Field(
        default=0.02, ge=0, lt=1, description="Least share by which held-out loss lies below the base's."
    )
    worse_than_champion: float = Field(
        default=0.0, ge=0, description="Largest share by which held-out loss may lie above the champion's."
    )
    keep_expected: bool = Field(
        default=True, description="Refuse a candidate that fails a question's expectation which the base meets."
    )


class Registry(Part):
    """Where versions are kept."""

    tracking_uri: str = Field(
        default="", description="MLflow's. Empty: MLFLOW_TRACKING_URI where it is set, else SQLite beside the runs."
    )


class Serve(Part):
    """How the new version is served."""

    enabled: bool = Field(default=True, description="false: the run ends with the registered version.")
    host: str = Field(default="127.0.0.1", description="Address that the server listens on.")
    port: int = Field(default=8360, ge=1, le=65535)
    ready_seconds: int = Field(
        default=0,
        ge=0,
        description="Longest wait for the model server to be ready. 0: reckoned from the bytes that it has to read.",
    )
    answer_seconds: int = Field(
        default=600, ge=1, le=86400, description="Longest answer; so long a server that is left finishes what it began."
    )
    max_request_mib: float = Field(default=4, gt=0, le=1024, description="Largest request; a larger one gets 413.")
    requests_per_minute: int = Field(
        default=0, ge=0, description="More get 429 and when to try again. 0: any number. In a cluster, of each replica."
    )
    strategy: Literal["auto", "blue-green", "in-place"] = Field(
        default="auto",
        description="blue-green: the new server starts beside the old one, and no request fails. in-place: the old one "
        "ends first, for want of room. auto: blue-green where both fit.",
    )
    answers_alike: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="How alike the server's answers must be to those of the evaluation: the mean of their words' F1. "
        "Other processors round otherwise; a wrong model has other words.",
    )
    watch_seconds: float = Field(
        default=30,
        ge=0,
        le=86400,
        description="How long a version is watched after the traffic has moved, before it is champion.",
    )
    watch_errors: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of failed answers in that time; above it the old one is back.",
    )
    watch_latency_factor: float = Field(
        default=3, ge=1, description="Likewise, how many times the old version's latency (95th percentile) is too slow."
    )
    keep_previous: Literal["stopped", "running"] = Field(
        default="stopped",
        description="How the version before is kept, to go back to: running takes its memory, and saves its start.",
    )
    runtime: Literal["auto", "vllm", "transformers"] = Field(
        default="auto",
        description="auto: vLLM where the setting FINELINE_VLLM_IMAGE names its image, else transformers.",
    )
    form: Literal["auto", "adapter", "merged"] = Field(
        default="auto",
        description="adapter: beside its base in 16 bits, exchanged without a restart; vLLM alone does that. merged: into a "
        "model of its own. auto: adapter where vLLM can. The evaluation scores what is served.",
    )
    gpus: int = Field(
        default=1, ge=0, le=16, description="Of each vLLM replica, which splits the model among them. 0: on processors."
    )
    replicas: int = Field(default=1, ge=1, le=64, description="vLLM servers side by side.")
    max_adapters: int = Field(
        default=4,
        ge=2,
        le=64,
        description="Adapters that a base has in memory at once: two versions of each model that it serves.",
    )
    instance_type: str = Field(
        default="",
        description="Of the nodes that vLLM is put on; its GPU's memory says what fits. Empty: the setting "
        "FINELINE_SERVE_INSTANCE_TYPE; where neither is set, any node with GPUs, and vLLM finds out what fits.",
    )

    @model_validator(mode="after")
    def _transformers_serves_merged_models(self) -> "Serve":
        if self.runtime == "transformers" and self.form == "adapter":
            raise ValueError("form: transformers serves merged models; set runtime to vllm, or form to merged")
        return self


class Compute(Part):
    """What a run may compute on, and what that may cost."""

    instance_types: list[str] = Field(
        default=[], description="Only these, of a cloud. Empty: all that the GPU presets know."
    )
    capacity: Literal["on-demand", "spot", "spot-first"] = Field(
        default="on-demand",
        description="spot-first: an instance type is asked for on-demand where there is none of it on spot.",
    )
    max_cost: float = Field(
        default=0,
        ge=0,
        description="US dollars. A run that would cost more is refused; one that comes to it is stopped, its checkpoint "
        "kept. 0: no limit.",
    )
    max_hours: float = Field(default=0, ge=0, description="Likewise, in hours. 0: no limit.")
    node_class: str = Field(
        default="", description="Name of Karpenter's NodeClass. Empty: the one that is there, or the one named default."
    )
    wait_minutes: float = Field(
        default=15,
        gt=0,
        le=120,
        description="Longest wait for a node of one instance type; then the next one is tried.",
    )
    idle_minutes: float = Field(
        default=30, gt=0, description="A tuning that has taken no step for so long is ended: its GPU computes nothing."
    )


class Recipe(Part):
    """What a user wants: model, data, tuning, gate, registry, serving, and what may compute it."""

    name: Name = Field(
        description="Of the registered and served model: lower-case letters, digits and dashes, a letter first."
    )
    model: str = Field(
        default="smollm2-135m-instruct:pypi",
        min_length=1,
        description="Model preset, or hf://ORG/NAME[@REVISION], s3://, gs:// or az://BUCKET/FOLDER, https://HOST/FOLDER/, "
        "file:///FOLDER, pypi://PACKAGE==VERSION/FILE.gguf.",
    )
    data: Data
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    registry: Registry = Registry()
    serve: Serve = Serve()
    compute: Compute = Compute()
    secrets: Name = Field(
        default="fineline",
        description="Begin of the names of the Secrets that a cluster's steps read where they are there: NAME-hub, "
        "NAME-object-store, NAME-mlflow, NAME-api-key, NAME-webhook.",
    )

    @model_validator(mode="after")
    def _no_workflow_references(self) -> "Recipe":
        # Argo Workflows replaces {{...}} inside a parameter's value and knows no way to escape it
        # (https://github.com/argoproj/argo-workflows/issues/2430).
        if "{{" in self.model_dump_json():
            raise ValueError("a recipe may not contain '{{': Argo Workflows would take it for a reference")
        return self
