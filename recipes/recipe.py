"""The recipe: everything that a user can want of a run, in one typed model.

Unknown keys are errors; `recipes.read` turns them into one line with the nearest known key.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DPO_LEARNING_RATE = 1e-5  # ten times what TRL's DPOTrainer takes for full tuning
DPO_ALONE = ("beta", "sft_weight")

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
    objective: Literal["sft", "dpo"] = Field(
        default="sft",
        description="sft: what the assistant says is learnt. dpo: that one answer is preferred to another, from pairs "
        "(chosen, rejected).",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        description="dpo: the larger, the less the model may move away from the base; 0.01 to 0.5 is usual.",
    )
    sft_weight: float = Field(
        default=0.0,
        ge=0,
        description="dpo: weight of the chosen answer's own loss a token beside the preference's, so that it does not become "
        "less likely along with the rejected one; 1 is usual where it is wanted.",
    )
    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        le=1,
        description="Peak; about ten times that of full tuning. dpo: 1e-5 where it is not set; 5e-6 to 5e-5 is usual, more "
        "with few hundred pairs.",
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    batch_tokens: int = Field(
        default=8192, ge=8, description="Tokens in an optimizer step, all rows together; of pairs, both sides."
    )
    rank: int = Field(default=16, ge=1, le=512, description="Rank of the adapter.")
    alpha: float = Field(default=32, gt=0, description="The adapter's scale is alpha / rank.")
    rslora: bool = Field(
        default=False,
        description="The scale is alpha / sqrt(rank): with alpha / rank a high rank learns little more than a low one.",
    )
    dora: bool = Field(
        default=False,
        description="Length and direction of each weight are learnt apart (DoRA). Better with low ranks; slower, takes more "
        "memory, and vLLM serves it merged alone.",
    )
    lora_plus: float = Field(
        default=1.0,
        ge=1,
        le=100,
        description="Learning rate of the adapter's second matrix (B), as a multiple of the first's (LoRA+). 1: plain "
        "LoRA; 16 is usual, with half the learning_rate.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="On the adapter's input.")
    targets: list[str] = Field(
        default=[], description="Names of the linear layers that get an adapter. Empty: all but the head."
    )
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=20, ge=1, description="Optimizer steps between two checkpoints.")
    compile: bool = Field(
        default=False,
        description="Compile the layers (torch.compile): steps are 14 to 19 % shorter on a GPU, after 5 to 15 minutes of "
        "compiling, so for runs of hours. Needs a C++ compiler. Every micro-batch is filled up to its full length.",
    )
    seed: int = Field(default=17, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("objective") == "dpo" and "learning_rate" not in given:
            return {**given, "learning_rate": DPO_LEARNING_RATE}
        return given

    @model_validator(mode="after")
    def _what_only_dpo_knows(self) -> "Tune":
        fields = type(self).model_fields
        for name in DPO_ALONE:
            if self.objective != "dpo" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} is of no account with the objective {self.objective}; set tune.objective=dpo")
        return self


class Question(Part):
    """A question asked of base and candidate, and over HTTP of the server."""

    ask: str = Field(min_length=1)
    expect: str = Field(default="", description="Text that a right answer contains, upper and lower case alike.")


HELD_OUT = "heldout"


class Task(Part):
    """Rows whose answers the models write, held against their references: what the assistant says last in each row."""

    data: str = Field(
        default=HELD_OUT,
        min_length=1,
        description="heldout: the held-out rows. Else a file of rows of its own, of the forms that data.train has, and "
        "which lies anywhere that may.",
    )
    metric: Literal["exact", "contains", "rouge_l"] = Field(
        description="exact: the answer is the reference. contains: the answer contains it. Case and punctuation aside. "
        "rouge_l: the longest common subsequence of words, as F-measure."
    )
    at_least: float | None = Field(
        default=None, ge=0, le=1, description="The gate refuses a candidate whose mean is below this. Not set: none is."
    )
    rows: int = Field(default=32, ge=1, description="Rows that are answered, evenly spread; fewer where there are.")

    @property
    def file(self) -> str:
        """The file of its own; empty where the held-out rows are meant."""
        return "" if self.data == HELD_OUT else self.data


class Evaluate(Part):
    """What is asked of the models besides the held-out rows."""

    questions: list[Question] = Field(default=[], description="Asked of every model; also the server's smoke test.")
    sample_rows: int = Field(default=4, ge=0, description="Held-out rows answered side by side.")
    answer_tokens: int = Field(default=64, ge=1, le=4096, description="Longest answer.")
    tasks: list[Task] = Field(
        default=[],
        description="Rows with references, answered greedily as served. The gate refuses a candidate that is worse in one "
        "than base or champion, beyond noise.",
    )
    general: bool = Field(
        default=True, description="Ask every model some hundred questions of general ability; see gate.general_drop."
    )

    @property
    def answers(self) -> int:
        """How many answers a model writes at the most."""
        return len(self.questions) + self.sample_rows + sum(task.rows for task in self.tasks)

    @model_validator(mode="after")
    def _tasks_differ(self) -> "Evaluate":
        asked = [(task.data, task.metric) for task in self.tasks]
        if twice := [one for one in asked if asked.count(one) > 1]:
            raise ValueError(f"tasks: {twice[0][0]} is there twice with the metric {twice[0][1]}")
        return self


class Gate(Part):
    """What a candidate must show to be registered as champion.

    A difference counts where its 95 % interval says that it is not noise: a paired bootstrap over the rows.
    """

    better_than_base: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Least share by which held-out loss lies below the base's; its interval must lie above 0 too.",
    )
    better_than_champion: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Likewise, below the champion's, for the candidate to take its place. Another seed alone, with the same "
        "rows, changes the loss by about 1 %, which no interval over rows can tell.",
    )
    worse_than_champion: float = Field(
        default=0.0,
        ge=0,
        description="0: only a better candidate takes the champion's place. Else one that is as good takes it too: its loss "
        "may lie above the champion's by this share, at its interval's far end. 0.05 needs so many held-out rows that a loss "
        "of 5 % would show.",
    )
    preference_accuracy: float = Field(
        default=0.55,
        ge=0.5,
        lt=1,
        description="dpo, in place of better_than_base: least share of held-out pairs whose chosen answer the candidate "
        "prefers more than the base does. With the champion it is the loss of a pair that is compared.",
    )
    keep_expected: bool = Field(
        default=True, description="Refuse a candidate that fails a question's expectation which the base meets."
    )
    general_drop: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Largest share of the questions of general ability that may be lost against the base; a loss that may "
        "be noise is none.",
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


class Export(Part):
    """What a version is written as besides its adapter, for use outside of the cluster."""

    merged: bool = Field(
        default=False,
        description="Write the base with the adapter merged into it, as a plain transformers model: safetensors in the "
        "base's own 16 bits.",
    )
    gguf: Literal["none", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = Field(
        default="none",
        description="Write the merged model as one GGUF file in that quantisation, for llama.cpp, Ollama and LM Studio. "
        "For a K-quant write bf16 and give it to llama-quantize.",
    )

    @property
    def wanted(self) -> bool:
        """Whether anything is to be written."""
        return self.merged or self.gguf != "none"


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
    export: Export = Export()
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
