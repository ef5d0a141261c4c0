"""The parts of a recipe for what happens to a version: registry, serving, and export to other formats."""

from typing import Literal

from pydantic import Field, model_validator

from recipes.recipe_part import RecipePart


class Registry(RecipePart):
    """The registry of versions."""

    tracking_uri: str = Field(
        default="",
        description="MLflow tracking URI. Empty: the setting MLFLOW_TRACKING_URI, else an SQLite file beside the runs. In a "
        "cluster, only that one and those that the setting FINELINE_REGISTRIES names are allowed.",
    )


class Serve(RecipePart):
    """How the new version is served."""

    enabled: bool = Field(
        default=True, description="Serve the new version. false: the run ends once the version is registered."
    )
    host: str = Field(default="127.0.0.1", description="Address that the server listens on. One machine only.")
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port that the server listens on. One machine only. Not set: the port that the model had "
        "last, if it is free, else the first free port from 8360 on.",
    )
    api_key: Literal["auto", "required", "none"] = Field(
        default="auto",
        description="Whether clients must send an API key, which comes from FINELINE_API_KEY, in a cluster from the Secret "
        "NAME-api-key. required: the run is refused if no key is set. none: no key. auto: required if a key is set or the "
        "version that serves has one; in a cluster also otherwise, unless the setting FINELINE_API_KEY_DEFAULT is none.",
    )
    ready_seconds: int = Field(
        default=0,
        ge=0,
        description="Seconds to wait for the model server to become ready. 0: estimated from the bytes that it loads.",
    )
    answer_seconds: int = Field(
        default=600,
        ge=1,
        le=86400,
        description="Time limit of one answer, in seconds. A server that is replaced gets this long to finish the requests "
        "in flight.",
    )
    max_request_mib: float = Field(
        default=4, gt=0, le=1024, description="Largest request body, in MiB. A larger one is answered with 413."
    )
    requests_per_minute: int = Field(
        default=0,
        ge=0,
        description="Requests allowed per minute; in a cluster, per replica. Further ones are answered with 429 and a "
        "Retry-After header. 0: no limit.",
    )
    strategy: Literal["auto", "blue-green", "in-place"] = Field(
        default="auto",
        description="blue-green: start the new server beside the old one and then switch; no request fails. in-place: when "
        "there is no room for both, the old server finishes its requests and stops, and nothing is served until the new "
        "one passes its checks or the old one is back. auto: blue-green if both fit.",
    )
    answers_alike: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Lowest accepted similarity between the server's answers and the evaluation's: their mean word-level F1. "
        "Rounding differs between processors; a wrong model differs in its words.",
    )
    watch_seconds: float = Field(
        default=30,
        ge=0,
        le=86400,
        description="Seconds to watch a version after the traffic has moved to it, before it becomes champion.",
    )
    watch_errors: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest accepted share of failed answers while the version is watched. Above it, the traffic goes back "
        "to the previous version. A request that the server refuses with 4xx does not count.",
    )
    watch_latency_factor: float = Field(
        default=3,
        ge=1,
        description="Largest accepted latency while the version is watched, as a multiple of the previous version's (95th "
        "percentile). Above it, the traffic goes back to the previous version.",
    )
    keep_previous: Literal["stopped", "running"] = Field(
        default="stopped",
        description="State of the previous version, for a rollback. running: it occupies its memory, and a rollback need not "
        "wait for it to start.",
    )
    runtime: Literal["auto", "vllm", "transformers"] = Field(
        default="auto",
        description="Inference server. auto: vLLM if the setting FINELINE_VLLM_IMAGE names its image, else transformers.",
    )
    form: Literal["auto", "adapter", "merged"] = Field(
        default="auto",
        description="adapter: load the adapter beside its 16-bit base and swap it without a restart; vLLM only. merged: "
        "merge it into a model of its own. auto: adapter if vLLM supports it for the model. The evaluation scores the form "
        "that is served.",
    )
    gpus: int = Field(
        default=1,
        ge=0,
        le=16,
        description="GPUs of each vLLM replica; the model is split across them. 0: serve on CPUs.",
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of servers of a version, on different nodes if possible; a drained node takes one at a time. In a "
        "cluster only: one machine runs one.",
    )
    max_adapters: int = Field(
        default=4,
        ge=2,
        le=64,
        description="Adapters that one base holds in memory: two versions of each model that it serves.",
    )
    instance_type: str = Field(
        default="",
        description="Instance type of the nodes that run vLLM; its GPU memory determines what fits. Empty: the setting "
        "FINELINE_SERVE_INSTANCE_TYPE. If that is not set either, any node with GPUs, and vLLM determines what fits.",
    )

    @model_validator(mode="after")
    def _transformers_serves_merged_models(self) -> "Serve":
        if self.runtime == "transformers" and self.form == "adapter":
            raise ValueError("form: transformers serves merged models only; set runtime to vllm, or form to merged")
        return self


class Export(RecipePart):
    """Formats that a version is written in besides its adapter, for use outside the cluster."""

    merged: bool = Field(
        default=False,
        description="Write the base with the adapter merged into it, as a plain transformers model: safetensors in the "
        "base's own 16-bit type.",
    )
    gguf: Literal["none", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = Field(
        default="none",
        description="Write the merged model as one GGUF file with this quantisation, for llama.cpp, Ollama and LM Studio. "
        "For a K-quant, write bf16 and convert it with llama-quantize.",
    )

    @property
    def enabled(self) -> bool:
        """Whether the version is written in any other format."""
        return self.merged or self.gguf != "none"
