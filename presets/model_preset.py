"""The model presets: all that is known of a model before a byte of it is here.

A preset is a YAML file in `presets/models/`; adding a file adds a preset.
"""

import difflib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field

from presets.architecture import Architecture


class ModelSource(BaseModel):
    """Where a model's files come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    sha256: str = Field(default="", description="of the file, where the source publishes none of its own")
    bytes: int = Field(default=0, description="to fetch, as far as that is known before the source has been asked")


class Chat(BaseModel):
    """How its own chat template writes a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: str = Field(description="the form's usual name; empty: it has no template, and is tuned on plain text")
    end_of_turn: str = Field(default="", description="the token that ends an answer, and that the server stops at")


class Vllm(BaseModel):
    """What vLLM needs to serve it, beyond its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapters: bool | None = Field(default=None, description="vLLM documents LoRA for it; not set: not known")
    arguments: list[str] = Field(default=[], description="of `vllm serve`, beyond the model's folder")


class ModelPreset(BaseModel):
    """One model: its sources, licence and constants, and what tuning and serving must know of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    family: str
    licence: str
    gated: bool = Field(description="its licence has to be accepted before it can be fetched")
    sources: dict[str, ModelSource] = Field(min_length=1)
    architecture: Architecture
    chat: Chat
    lora_targets: list[str] = Field(description="the linear layers of a decoder's layer that get an adapter")
    cannot_be_tuned: str = Field(default="", description="why, where it can be fetched and served but not tuned")
    cannot_be_quantised: str = Field(default="", description="why, where it can be tuned with lora and not with qlora")
    vllm: Vllm


@dataclass(frozen=True)
class UnknownPresetError(Exception):
    """No preset, or no source of the preset, has that name; `nearest` is what may have been meant."""

    name: str
    nearest: str

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        others = "hf://ORG/NAME, s3://BUCKET/FOLDER and the like work too"
        return f"unknown model {self.name!r}{hint} 'fineline presets' lists them; {others}"


@cache
def model_presets() -> dict[str, ModelPreset]:
    """Return every preset by its name, in the order of the names."""
    return {name: _read(name) for name in _names()}


def find(name: str) -> tuple[ModelPreset, ModelSource]:
    """Return the preset and the source that `name` or `name:source` means.

    Raises:
        UnknownPresetError: with the nearest name that exists.
    """
    base, _, source = name.partition(":")
    if base in _names():
        preset = _read(base)
        if not source:
            return preset, next(iter(preset.sources.values()))
        if source in preset.sources:
            return preset, preset.sources[source]
    presets = model_presets()
    known = [*presets, *(f"{p.name}:{s}" for p in presets.values() for s in p.sources)]
    raise UnknownPresetError(name, next(iter(difflib.get_close_matches(name, known, 1, 0.4)), ""))


@cache
def _names() -> list[str]:
    files = resources.files("presets").joinpath("models").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


@cache
def _read(name: str) -> ModelPreset:
    text = resources.files("presets").joinpath("models", f"{name}.yaml").read_text()
    # libyaml reads all of them in 40 ms; Python's own reader takes ten times as long.
    return ModelPreset.model_validate(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
