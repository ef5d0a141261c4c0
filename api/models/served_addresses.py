"""Where tuned models are served, and how that ends."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ServedModel:
    """What there is of a tuned model."""

    version: int  # that serves; if none does, the champion or the latest that was not withdrawn
    created_at: int  # when it was registered, in Unix seconds
    base: str = ""  # that it was made from
    run: str = ""  # that made it
    served: bool = False


class Addresses(Protocol):
    """The registry and what serves, on this machine or in a cluster. Any method may be called by several threads at once."""

    def url(self, name: str) -> str | None:
        """Return the base URL of a model's gateway, such as http://127.0.0.1:8360/v1; None if it is not served."""

    def api_key(self) -> str:
        """Return the key that the gateways want; empty if they want none."""

    def known(self, names: Collection[str]) -> Mapping[str, ServedModel]:
        """Return what there is of models that have a version that was not withdrawn, by name.

        Raises:
            UnreachableError: the registry does not answer.
        """

    def stop(self, name: str) -> None:
        """Stop serving a model.

        Raises:
            BusyError: a rollout of it is under way.
        """

    def withdraw(self, name: str, by: str) -> None:
        """Withdraw every version of a model, so that nothing serves one again but by name, and take its aliases away.

        Raises:
            UnreachableError: the registry does not answer.
        """
