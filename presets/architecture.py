"""The constants of a decoder, read from its config.json, and the shapes and sizes that follow from them."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Model types whose MLP has two matrices (up, down) and not three (gate, up, down).
PLAIN_MLP = {"bloom", "codegen", "falcon", "gpt2", "gpt_neox", "gptj", "nemotron", "opt", "phi", "starcoder2"}
TIED_BY_DEFAULT = ("falcon", "gemma", "gemma2", "gemma3_text")
FALCON_CONTEXT = 2048
Shape = tuple[int, int]  # of a linear projection: (in, out)


class Constants(BaseModel):
    """A set of constants. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Experts(Constants):
    """The MLPs of a mixture of experts, in place of one MLP per layer."""

    count: int = Field(gt=0)
    active: int = Field(gt=0, description="experts that a token passes through, without the shared ones")
    shared: int = Field(default=0, ge=0, description="experts that every token passes through")
    intermediate: int = Field(gt=0, description="width of one expert")
    dense_layers: int = Field(default=0, ge=0, description="number of first layers with one MLP of the full width")


class LatentAttention(Constants):
    """Multi-head latent attention: narrow projections for queries, keys and values. The cache holds the latent vector."""

    query_rank: int = Field(gt=0)
    key_value_rank: int = Field(gt=0)
    plain_dim: int = Field(gt=0, description="head dimension of queries and keys without position")
    rotary_dim: int = Field(gt=0, description="head dimension of queries with position; all heads share one key")
    value_dim: int = Field(gt=0)


class Architecture(Constants):
    """The constants of a decoder."""

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    vocabulary: int = Field(gt=0, description="rows of the embedding, including padding rows")
    tied_embeddings: bool
    context: int = Field(gt=0, description="longest sequence, in tokens")
    mlp: Literal["gated", "plain"] = "gated"
    experts: Experts | None = None
    latent_attention: LatentAttention | None = None
    beside: int = Field(default=0, ge=0, description="parameters outside the decoder: a vision tower and its projector")

    @property
    def query_width(self) -> int:
        """Total width of the queries of all heads."""
        return self.heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Total width of the keys, or of the values, of all heads."""
        return self.kv_heads * self.head_dim

    @property
    def attention_shapes(self) -> list[Shape]:
        """The projections of the attention of one layer."""
        if latent := self.latent_attention:
            head = latent.plain_dim + latent.rotary_dim
            return [
                (self.hidden, latent.query_rank),
                (latent.query_rank, self.heads * head),
                (self.hidden, latent.key_value_rank + latent.rotary_dim),
                (latent.key_value_rank, self.heads * (latent.plain_dim + latent.value_dim)),
                (self.heads * latent.value_dim, self.hidden),
            ]
        q, kv = self.query_width, self.key_value_width
        return [(self.hidden, q), (self.hidden, kv), (self.hidden, kv), (q, self.hidden)]

    def mlp_shapes(self, width: int) -> list[Shape]:
        """Return the projections of an MLP of that width."""
        into = [(self.hidden, width)] * (2 if self.mlp == "gated" else 1)
        return [*into, (width, self.hidden)]

    @property
    def linear_shapes(self) -> list[Shape]:
        """The projections of one dense layer: q, k, v, o, gate, up, down. Fused projections are listed as their parts."""
        return [*self.attention_shapes, *self.mlp_shapes(self.intermediate)]

    @property
    def linear_parameters(self) -> int:
        """Parameters in the linear projections of all layers: those that are quantised and get adapters."""
        return self._linear(lambda experts: experts.count)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied with, including those of its experts and the head."""
        return self._linear(lambda experts: experts.active) + self.vocabulary * self.hidden

    def _linear(self, counted: Callable[[Experts], int]) -> int:
        attention, dense = _sum(self.attention_shapes), _sum(self.mlp_shapes(self.intermediate))
        if not self.experts:
            return self.layers * (attention + dense)
        expert = _sum(self.mlp_shapes(self.experts.intermediate))
        mixed = (counted(self.experts) + self.experts.shared) * expert + self.hidden * self.experts.count
        sparse = self.layers - self.experts.dense_layers
        return self.layers * attention + self.experts.dense_layers * dense + sparse * mixed

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, and of the head if the two are not tied."""
        return self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def parameters(self) -> int:
        """All parameters except norms and biases (under 0.2 %)."""
        return self.linear_parameters + self.embedding_parameters + self.beside

    @property
    def cache_values(self) -> int:
        """Values that a server caches per token in all layers."""
        if latent := self.latent_attention:
            return self.layers * (latent.key_value_rank + latent.rotary_dim)
        return self.layers * 2 * self.key_value_width

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Architecture":
        """Read the constants of a dense decoder from its `config.json`.

        Raises:
            KeyError: the config lacks a constant; the key is its usual name.
            ValueError: the model is not a dense text decoder in 16 or 32 bits; the text says what it is.
        """
        kind = config.get("model_type", "")
        for key, what in (
            ("quantization_config", "is published quantised; choose the repository with the original weights"),
            ("vision_config", "has a vision tower; only text models can be tuned"),
            ("text_config", "wraps a text model; only text models can be tuned"),
            ("num_local_experts", "is a mixture of experts; only dense decoders can be tuned"),
            ("n_routed_experts", "is a mixture of experts; only dense decoders can be tuned"),
            ("num_experts", "is a mixture of experts; only dense decoders can be tuned"),
        ):
            if config.get(key):
                raise ValueError(what)
        heads, hidden = _constant(config, "num_attention_heads"), _constant(config, "hidden_size")
        return cls(
            layers=_constant(config, "num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=_kv_heads(config, heads),
            head_dim=config.get("head_dim") or hidden // heads,
            intermediate=config.get("ffn_hidden_size") or 4 * hidden
            if kind == "falcon"
            else _constant(config, "intermediate_size"),
            vocabulary=_constant(config, "vocab_size"),
            tied_embeddings=config.get("tie_word_embeddings", kind in TIED_BY_DEFAULT),
            context=_context(config, kind),
            mlp="plain" if kind in PLAIN_MLP else "gated",
        )


def _constant(config: dict[str, Any], name: str) -> int:
    value: int | None = config.get(name)
    if not value:
        raise KeyError(name)
    return value


def _context(config: dict[str, Any], kind: str) -> int:
    """Return the longest sequence. GPT-2's name for it is accepted too; a Falcon's config leaves it out."""
    context: int | None = config.get("max_position_embeddings") or config.get("n_positions")
    if context is None and kind == "falcon":
        return FALCON_CONTEXT
    return context or _constant(config, "max_position_embeddings")


def _kv_heads(config: dict[str, Any], heads: int) -> int:
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return int(config.get("num_key_value_heads") or config.get("num_kv_heads") or heads)


def _sum(shapes: list[Shape]) -> int:
    return sum(rows * columns for rows, columns in shapes)
