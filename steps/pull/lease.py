"""A Kubernetes Lease: held while it is renewed, taken over when it has not been renewed for some time.

A waiting process tells by its own clock, from the moment when it last saw the Lease change. So the clocks of two nodes need
not agree, and no time that is written in the Lease is compared with a clock.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ConflictError, NotFoundError, api_errors, none_if_absent
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import say

SECONDS = 30  # without a renewal, after which a waiting process takes over
RENEW_SECONDS = 5.0
POLL_SECONDS = 1.0


class Lease:
    """A right that one process in a namespace can hold."""

    def __init__(self, name: str, holder: str, namespace: str) -> None:
        """Name the right and the process that wants it.

        Args:
            name: name of the Lease.
            holder: unique name of this process.
            namespace: namespace of the Lease.
        """
        self.name, self.holder, self.namespace = name, holder, namespace
        self._version = ""  # resourceVersion of the Lease when this process last wrote it
        self._renewed = 0.0
        self._done = threading.Event()
        self._lost = False

    @contextlib.contextmanager
    def held(self, waiting: Callable[[], None]) -> Iterator["Lease"]:
        """Wait for the right, hold it, and release it.

        Args:
            waiting: called about once a second while another process holds it.

        Raises:
            UserError: the account lacks a permission, or the cluster does not answer.
        """
        self._take(waiting)
        renewer = threading.Thread(target=self._renew, daemon=True)
        renewer.start()
        try:
            yield self
        finally:
            self._done.set()
            renewer.join(RENEW_SECONDS)
            with contextlib.suppress(Exception):  # otherwise it expires
                self._give_up()

    def check(self) -> None:
        """Raise if another process holds the right, or may hold it by now.

        Raises:
            InterruptedStepError: this process has not renewed it in time; what it has fetched is kept.
        """
        if self._lost or time.monotonic() - self._renewed > SECONDS:
            raise InterruptedStepError(
                f"the Lease {self.name} was not renewed in {SECONDS} s; another process takes over"
            )

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
                    say(
                        f"{holder} has not renewed the Lease for {time.monotonic() - since:.0f} s; this process takes over"
                    )
                if self._replace(version):
                    return
                continue
            waiting()
            time.sleep(POLL_SECONDS)

    def _renew(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            # If the API server does not answer, try again; `check` raises when that has taken too long.
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
