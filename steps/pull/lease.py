"""A Kubernetes Lease: held while it is renewed, taken over when it was not for some time.

Whether it was renewed a waiter tells by its own clock, from when it last saw the Lease change: the clocks of two nodes
need not agree, and no time that stands in the Lease is compared with one.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.errors import ConflictError, NotFoundError, api_errors, none_if_absent
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import say

SECONDS = 30  # without a renewal: then whoever waits takes over
RENEW_SECONDS = 5.0
POLL_SECONDS = 1.0


class Lease:
    """The right to do something, of which there is one in a namespace."""

    def __init__(self, name: str, holder: str, namespace: str) -> None:
        """Name the right, and who wants it.

        Args:
            name: of the Lease.
            holder: this process, named unlike any other.
            namespace: where it lies.
        """
        self.name, self.holder, self.namespace = name, holder, namespace
        self._version = ""  # of the Lease as this process wrote it last
        self._renewed = 0.0
        self._done = threading.Event()
        self._lost = False

    @contextlib.contextmanager
    def held(self, waiting: Callable[[], None]) -> Iterator["Lease"]:
        """Wait for the right, hold it, and give it up.

        Args:
            waiting: called about once a second while another has it.

        Raises:
            UserError: the account may not, or the cluster does not answer.
        """
        self._take(waiting)
        renewer = threading.Thread(target=self._renew, daemon=True)
        renewer.start()
        try:
            yield self
        finally:
            self._done.set()
            renewer.join(RENEW_SECONDS)
            with contextlib.suppress(Exception):  # it runs out by itself
                self._give_up()

    def check(self) -> None:
        """Raise when the right is another's, or may be by now.

        Raises:
            InterruptedStepError: this process has not renewed it in time; what it has fetched is kept.
        """
        if self._lost or time.monotonic() - self._renewed > SECONDS:
            raise InterruptedStepError(f"the Lease {self.name} was not renewed in {SECONDS} s; another process goes on")

    def _take(self, waiting: Callable[[], None]) -> None:
        seen, since = "", time.monotonic()
        while True:
            lease = self._read()
            if lease is None:
                if self._create():
                    return
                time.sleep(POLL_SECONDS)
                continue
            version, holder = lease.metadata.resource_version, lease.spec.holder_identity
            if version != seen:
                seen, since = version, time.monotonic()
            if not holder or time.monotonic() - since > (lease.spec.lease_duration_seconds or SECONDS):
                if holder:
                    say(f"{holder} was not heard of for {time.monotonic() - since:.0f} s; this process takes over")
                if self._replace(version):
                    return
                continue
            waiting()
            time.sleep(POLL_SECONDS)

    def _renew(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            # Where the API server does not answer it is tried again; `check` tells when that was too long.
            with contextlib.suppress(UserError):
                if not self._replace(self._version):
                    self._lost = True
                    return

    def _read(self) -> Any:
        return none_if_absent(lambda: client.leases().read_namespaced_lease(self.name, self.namespace))

    def _create(self) -> bool:
        return self._write(lambda body: client.leases().create_namespaced_lease(self.namespace, body), "")

    def _replace(self, version: str) -> bool:
        api = client.leases()
        return self._write(lambda body: api.replace_namespaced_lease(self.name, self.namespace, body), version)

    def _write(self, send: Callable[[dict[str, Any]], Any], version: str) -> bool:
        """Write the Lease as this process's; return False if another process has written it in between."""
        now = time.monotonic()
        written = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        metadata = {"name": self.name, **({"resourceVersion": version} if version else {})}
        spec = {"holderIdentity": self.holder, "leaseDurationSeconds": SECONDS, "renewTime": written}
        try:
            with api_errors():
                made = send({"metadata": metadata, "spec": spec})
        except (ConflictError, NotFoundError) as error:
            if isinstance(error, NotFoundError) and not version:
                raise UserError(f"the namespace {self.namespace} does not exist") from None
            # A request whose answer was lost is sent again, and then refused: what exists is this process's own.
            made = self._read()
            if made is None or made.spec.holder_identity != self.holder:
                return False
        self._version, self._renewed = made.metadata.resource_version, now
        return True

    def _give_up(self) -> None:
        if not self._lost:
            body = {"preconditions": {"resourceVersion": self._version}}
            client.leases().delete_namespaced_lease(self.name, self.namespace, body=body)
