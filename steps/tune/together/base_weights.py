"""Where the weights of the base lie while an adapter on it is tuned: whole in each process, or dealt out among all."""

from pathlib import Path
from typing import Any, Protocol

from steps.common.model import base_model


class BaseWeights(Protocol):
    """The weights of the base, and what its processes owe each other where none has them all."""

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model of a folder, as this process computes with it."""

    def begin_reading(self, times: int) -> None:
        """Begin forward passes without gradients, of which every process makes as many, or fewer."""

    def begin(self, *, reads: bool) -> None:
        """Begin a forward and a backward pass of a part of this process's share of a step.

        Args:
            reads: whether a forward pass without gradients goes before.
        """

    def end(self) -> None:
        """End them, wherever they got to."""

    def accompany(self) -> None:
        """Wait until no process has a part left to compute, and help those that have."""


class Whole:
    """The base is whole in each process: none needs the others for a pass."""

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model of a folder."""
        return base_model.load_base_model(folder, device, in_4_bits=in_4_bits)

    def begin_reading(self, times: int) -> None:
        """Do nothing."""

    def begin(self, *, reads: bool) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def accompany(self) -> None:
        """Do nothing."""
