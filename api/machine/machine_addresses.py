"""The models that this machine serves."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from api.models import registered_models
from api.models.served_addresses import ServedModel
from steps.common.machine import servers
from steps.common.runtime import cluster_settings
from steps.rollout.lease.machine_lease import machine_lease, read_holder
from steps.rollout.lease.right import BusyError, Purpose


class MachineAddresses:
    """See `Addresses`."""

    def url(self, name: str) -> str | None:
        """Return the base URL of a model's gateway; None if it is not served."""
        running = servers.gateway(name)
        return running.url if running else None

    def api_key(self) -> str:
        """Return the key that the gateways require if the model's recipe asks for one; empty if none is set."""
        return cluster_settings.api_key()

    def known(self, names: Collection[str]) -> Mapping[str, ServedModel]:
        """Return the models that have a version that was not withdrawn, by name."""
        found = registered_models.registered(names)
        live = {name: server for name in found if (server := servers.server(name)) and servers.gateway(name)}
        return {
            name: replace(one, version=live[name].version, served=True) if name in live else one
            for name, one in found.items()
        }

    def stop(self, name: str) -> None:
        """Stop the gateway and the servers of a model.

        Raises:
            BusyError: a rollout of it is under way.
        """
        if read_holder(name).process():
            raise BusyError(f"a rollout of {name} is under way")
        with machine_lease(name, Purpose.RECOVERY, 0):
            servers.stop(name)

    def withdraw(self, name: str, by: str) -> None:
        """Withdraw every version of a model, and delete its aliases."""
        registered_models.withdraw_all(name, by)
