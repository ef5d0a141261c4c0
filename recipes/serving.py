"""The parts of a recipe that say how a version is kept, served, and written for use elsewhere."""

from typing import Literal

from pydantic import Field, model_validator

from recipes.recipe_part import RecipePart


class Registry(RecipePart):
    """Where versions are kept."""

    tracking_uri: str = Field(
        default="", description="MLflow's. Empty: MLFLOW_TRACKING_URI where it is set, else SQLite beside the runs."
    )


class Serve(RecipePart):
    """How the new version is served."""

    enabled: bool = Field(default=True, description="false: the run ends with the registered version.")
    host: str = Field(default="127.0.0.1", description="Address that the server listens on.")
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port on one machine. Empty: the model's last one, else a free one from 8360.",
    )
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
        "answers what it has begun and ends, for want of room; until the new one has proved itself, or the old one is back, "
        "nobody answers. auto: blue-green where both fit.",
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


class Export(RecipePart):
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
