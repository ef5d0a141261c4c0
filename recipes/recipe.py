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
    ready_seconds: int = Field(default=300, ge=1, description="Longest wait for the model server to be ready.")


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
