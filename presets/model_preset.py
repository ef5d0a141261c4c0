"""The model presets: all that is known of a model before a byte of it is here.

A preset is a YAML file in `presets/models/`; adding a file adds a preset.
"""

import difflib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Architecture(BaseModel):
    """A dense decoder's constants, as its own config.json names them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    tied_embeddings: bool
    context: int = Field(gt=0, description="longest sequence in tokens")

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """(in, out) of one layer's seven linear projections: q, k, v, o, gate, up, down."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, q), (self.hidden, kv), (self.hidden, kv), (q, self.hidden)]
        return [
            *attention,
            (self.hidden, self.intermediate),
            (self.hidden, self.intermediate),
            (self.intermediate, self.hidden),
        ]

    @property
    def linear_parameters(self) -> int:
        """Parameters in the linear projections of all layers: what is quantised and what carries adapters."""
        return self.layers * sum(rows * columns for rows, columns in self.linear_shapes)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, and of the head where it is not tied to it."""
        return self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def parameters(self) -> int:
        """All parameters, norms left out (under 0.1 %)."""
        return self.linear_parameters + self.embedding_parameters

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Architecture":
        """Read the constants from a `config.json` of the Llama family's form.

        Raises:
            KeyError: the config lacks one of the constants; the key names it.
        """
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return cls(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            tied_embeddings=config.get("tie_word_embeddings", False),
            context=config["max_position_embeddings"],
        )


class Source(BaseModel):
    """Where a model's files come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    sha256: str = Field(default="", description="of the file, where the source publishes none of its own")
    bytes: int = Field(default=0, description="of the file, where the source does not tell before it is fetched")


class ModelPreset(BaseModel):
    """One model: its sources, licence and constants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    licence: str
    gated: bool
    sources: dict[str, Source] = Field(min_length=1)
    architecture: Architecture


@dataclass(frozen=True)
class UnknownPresetError(Exception):
    """No preset, or no source of the preset, has that name; `nearest` is what may have been meant."""

    name: str
    nearest: str

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"unknown model {self.name!r}{hint} 'fineline presets' lists them; hf://ORG/NAME and file:///FOLDER work too"


@cache
def model_presets() -> dict[str, ModelPreset]:
    """Return every preset by its name, in the order of the names."""
    files = sorted(f for f in resources.files("presets").joinpath("models").iterdir() if f.name.endswith(".yaml"))  # type: ignore[type-var]
    presets = [ModelPreset.model_validate(yaml.safe_load(f.read_text())) for f in files]
    return {preset.name: preset for preset in presets}


def find(name: str) -> tuple[ModelPreset, Source]:
    """Return the preset and the source that `name` or `name:source` means.

    Raises:
        UnknownPresetError: with the nearest name that exists.
    """
    presets = model_presets()
    base, _, source = name.partition(":")
    preset = presets.get(base)
    if preset and not source:
        return preset, next(iter(preset.sources.values()))
    if preset and source in preset.sources:
        return preset, preset.sources[source]
    known = [*presets, *(f"{p.name}:{s}" for p in presets.values() for s in p.sources)]
    raise UnknownPresetError(name, next(iter(difflib.get_close_matches(name, known, 1, 0.4)), ""))
