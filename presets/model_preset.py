"""The model presets: what is known about a model before any of it is downloaded.

A preset is a YAML file in `presets/models/`. To add a preset, add a file.
"""

import difflib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field

from presets.architecture import Architecture


class ModelSource(BaseModel):
    """A place from which the files of a model are downloaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    sha256: str = Field(default="", description="SHA-256 of the file, if the source does not publish one")
    bytes: int = Field(default=0, description="bytes to download, if known before the source is asked")


class Chat(BaseModel):
    """How the chat template of a model writes a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: str = Field(description="usual name of the format; empty: no template, the model is tuned on plain text")
    end_of_turn: str = Field(default="", description="token that ends an answer, at which the server stops")
    template_arguments: dict[str, bool | int | float | str] = Field(
        default={}, description="arguments of the chat template, in preparation, evaluation and serving"
    )
    # Names and models: https://docs.vllm.ai/en/latest/features/tool_calling/, read on 2026-11-29.
    tool_parser: str = Field(default="", description="vLLM's parser of tool calls; empty: none is known")


class Vllm(BaseModel):
    """What vLLM needs to serve a model besides its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapters: bool | None = Field(default=None, description="whether vLLM documents LoRA support; not set: unknown")
    arguments: list[str] = Field(default=[], description="further arguments of `vllm serve`")


class ModelPreset(BaseModel):
    """A model: its sources, licence and constants, and what tuning and serving need to know about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    family: str
    licence: str
    gated: bool = Field(description="whether its licence must be accepted before download")
    sources: dict[str, ModelSource] = Field(min_length=1)
    architecture: Architecture
    chat: Chat
    lora_targets: list[str] = Field(description="linear layers of a decoder layer that get an adapter")
    cannot_be_tuned: str = Field(default="", description="reason, if the model can be served but not tuned")
    cannot_be_quantised: str = Field(default="", description="reason, if lora works and qlora does not")
    vllm: Vllm


@dataclass(frozen=True)
class UnknownPresetError(Exception):
    """No preset, or no source of a preset, has that name; `nearest` is the nearest name that exists."""

    name: str
    nearest: str

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ";"
        others = "URIs such as hf://ORG/NAME and s3://BUCKET/FOLDER work too"
        return f"unknown model {self.name!r}{hint} run 'fineline presets' to list them; {others}"


@cache
def model_presets() -> dict[str, ModelPreset]:
    """Return all presets by name, in alphabetical order."""
    return {name: _read(name) for name in _names()}


def find(name: str) -> tuple[ModelPreset, ModelSource]:
    """Return the preset and the source that `name` or `name:source` refers to.

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
    # libyaml reads all of them in 40 ms; the pure Python reader takes ten times as long.
    return ModelPreset.model_validate(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
