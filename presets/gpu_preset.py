"""The GPU presets: cloud instance types with their GPUs and their dated prices.

They are CSV files in `presets/gpus/`, one per cloud. A user's own file has the same columns; its rows come first and replace
those of the same name.
"""

import csv
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Cloud = Literal["aws", "azure", "gcp"]
Capacity = Literal["on-demand", "spot"]
CLOUDS: tuple[Cloud, ...] = get_args(Cloud)
FIRST_WITH_BF16 = 8.0  # compute capability
MIB = 1 << 20


class GpuPreset(BaseModel):
    """An instance type."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    instance_type: str
    cloud: Cloud | None = Field(default=None, description="its cloud; in a user's own file only")
    gpu: str
    gpus: int = Field(gt=0)
    gpu_mib: int = Field(gt=0, description="memory of one GPU, as Karpenter labels it")
    compute_capability: float | None = None
    vcpus: int | None = None
    memory_gib: float | None = None
    disk_gb: float | None = Field(default=None, description="size of its local disks")
    network_gbps: float | None = None
    region: str = Field(default="", description="region of the price")
    on_demand: float | None = Field(default=None, ge=0, description="US dollars per hour")
    spot: float | None = Field(default=None, ge=0, description="US dollars per hour")
    priced_on: str = Field(default="", description="day of the prices")
    accelerator: str = Field(default="", description="name of its GPU in GKE")
    unfit: str = Field(default="", description="reason why Fineline cannot run on it")
    sold_out: tuple[str, ...] = Field(default=(), description="capacity types that are sold out at the moment")

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_not_set(cls, value: Any, info: Any) -> Any:
        if value == "":
            return cls.model_fields[info.field_name].get_default()
        return value

    @property
    def gpu_bytes(self) -> int:
        """Memory of one GPU."""
        return self.gpu_mib * MIB

    @property
    def why_unfit(self) -> str:
        """Reason why tuning cannot run on it; empty if it can."""
        if self.unfit:
            return self.unfit
        if self.compute_capability is not None and self.compute_capability < FIRST_WITH_BF16:
            return f"its GPU has no bf16 (compute capability {self.compute_capability}, and bf16 needs 8.0)"
        return ""


class Speed(BaseModel):
    """The speed of a GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str
    tflops: float
    memory_gbps: float


class GpuFileError(Exception):
    """A file of instance types is invalid; the text is one line with the file, the line and the column."""


@cache
def gpu_presets(cloud: Cloud, own: Path | None = None) -> list[GpuPreset]:
    """Return the instance types of a cloud.

    Args:
        cloud: the cloud.
        own: the user's file, whose rows come first and replace those of the same name.

    Raises:
        GpuFileError: the user's file is invalid.
    """
    added = [preset for preset in _read(own.name, _text(own)) if cloud in _clouds(preset)] if own else []
    named = {preset.instance_type for preset in added}
    return [*added, *(preset for preset in _shipped(cloud) if preset.instance_type not in named)]


@cache
def _shipped(cloud: Cloud) -> list[GpuPreset]:
    return list(_read(f"{cloud}.csv", resources.files("presets").joinpath("gpus", f"{cloud}.csv").read_text()))


def _clouds(preset: GpuPreset) -> list[Cloud]:
    """Return the clouds of a user's row: the one that it names, the ones with a type of that name, else all."""
    if preset.cloud:
        return [preset.cloud]
    known = [cloud for cloud in CLOUDS if any(one.instance_type == preset.instance_type for one in _shipped(cloud))]
    return known or list(CLOUDS)


@cache
def speeds() -> dict[str, Speed]:
    """Return the known speeds by the name of the GPU."""
    text = resources.files("presets").joinpath("gpus", "speeds.csv").read_text()
    found = [Speed.model_validate(row) for _, row in _rows(text)]
    return {speed.gpu: speed for speed in found}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise GpuFileError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _read(name: str, text: str) -> Iterator[GpuPreset]:
    for line, row in _rows(text):
        try:
            yield GpuPreset.model_validate(row)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            column = ".".join(str(part) for part in first["loc"])
            known = f"; the columns are {', '.join(GpuPreset.model_fields)}" if "extra" in first["type"] else ""
            raise GpuFileError(f"{name}:{line}: {column}: {first['msg'][0].lower()}{first['msg'][1:]}{known}") from None


def _rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows with their line numbers. Lines that start with # are comments."""
    kept = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    for (number, _), row in zip(kept[1:], csv.DictReader(line for _, line in kept), strict=False):
        yield number, {str(key): value for key, value in row.items()}
