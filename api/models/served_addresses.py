"""Where tuned models are served, and how to stop that."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ServedModel:
    """A tuned model."""

    version: int  # the one that is served; if none is, the champion, or else the latest that was not withdrawn
    created_at: int  # when it was registered, in Unix seconds
    base: str = ""  # base model that it was tuned from
    run: str = ""  # run that made it
    served: bool = False


class Addresses(Protocol):
    """The registry and the served models, on this machine or in a cluster. Several threads may call any method at once."""

    def url(self, name: str) -> str | None:
        """Return the base URL of a model's gateway, such as http://127.0.0.1:8360/v1; None if it is not served."""

    def api_key(self) -> str:
        """Return the key that the gateways require; empty if they require none."""

    def known(self, names: Collection[str]) -> Mapping[str, ServedModel]:
        """Return the models that have a version that was not withdrawn, by name.

        Raises:
            UnreachableError: the registry does not answer.
        """

    def stop(self, name: str) -> None:
        """Stop serving a model.

        Raises:
            BusyError: a rollout of it is under way.
        """

    def withdraw(self, name: str, by: str) -> None:
        """Withdraw every version of a model, and delete its aliases. After that, a version is served again only if it is named.

        Raises:
            UnreachableError: the registry does not answer.
        """
