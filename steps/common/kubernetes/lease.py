"""A Kubernetes Lease: held while it is renewed, taken over when it has not been renewed for some time.

A waiting process tells by its own clock, from the moment when it last saw the Lease change. So the clocks of two nodes need
not agree, and no time that is written in the Lease is compared with a clock.

Each change of holder raises the Lease's number, its fence. Whoever writes the fence on what it changes can refuse a holder
that was paused, lost the Lease, and wakes up.
"""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ConflictError, NotFoundError, api_errors, none_if_absent
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import say

SECONDS = 30  # without a renewal, after which a waiting process takes over
RENEW_SECONDS = 5.0
POLL_SECONDS = 1.0

Notes = Mapping[str, str]


class LeaseLostError(InterruptedStepError):
    """Another process holds the Lease."""

    def __init__(self, text: str, notes: Notes) -> None:
        """Keep what the new holder has noted about itself.

        Args:
            text: the error's line.
            notes: the annotations of the Lease; empty if it is gone.
        """
        super().__init__(text)
        self.notes = notes


def process_name() -> str:
    """Return a unique name of this process: the pod or machine, and its pid."""
    return f"{platform.node()}-{os.getpid()}"


def _never(_notes: Notes) -> bool:
    return False


class Lease:
    """A right that one process in a namespace can hold."""

    def __init__(
        self,
        name: str,
        holder: str,
        namespace: str,
        *,
        notes: Notes | None = None,
        takes_over: Callable[[Notes], bool] = _never,
        lowest_fence: int = 1,
        kept: bool = False,
    ) -> None:
        """Name the right and the process that wants it.

        Args:
            name: name of the Lease.
            holder: unique name of this process.
            namespace: namespace of the Lease.
            notes: annotations that tell others who holds it.
            takes_over: told a holder's notes, returns whether this process takes the right from it at once.
            lowest_fence: the first fence of a new Lease.
            kept: keep the released Lease, so that its fence goes on rising; else it is deleted.
        """
        self.name, self.holder, self.namespace = name, holder, namespace
        self.fence = 0  # rises with each change of holder
        self.taken_from: Notes = {}  # the notes of the holder from which the right was taken before it expired
        self._notes, self._takes_over, self._lowest_fence, self._kept = notes or {}, takes_over, lowest_fence, kept
        self._version = ""  # resourceVersion of the Lease when this process last wrote it
        self._renewed = 0.0
        self._done = threading.Event()
        self._lost = False

    @contextlib.contextmanager
    def held(self, waiting: Callable[[], None], on_loss: Callable[[], None] | None = None) -> Iterator["Lease"]:
        """Wait for the right, hold it, and release it.

        Args:
            waiting: called about once a second while another process holds it.
            on_loss: called in another thread when another process has taken it.

        Raises:
            UserError: the account lacks a permission, or the cluster does not answer.
        """
        self._take(waiting)
        renewer = threading.Thread(target=self._renew, args=(on_loss,), daemon=True)
        renewer.start()
        try:
            yield self
        finally:
            self._done.set()
            renewer.join(RENEW_SECONDS)
            with contextlib.suppress(Exception):  # otherwise it expires
                self._give_up()

    def check(self) -> None:
        """Raise if another process holds the right, or may hold it by now, as far as this process knows.

        Raises:
            LeaseLostError: this process has not renewed it in time.
        """
        if self._lost or time.monotonic() - self._renewed > SECONDS:
            raise LeaseLostError(
                f"the Lease {self.name} was not renewed in {SECONDS} s; another process takes over", {}
            )

    def confirm(self) -> None:
        """Read the Lease, and raise if another process holds it.

        Raises:
            LeaseLostError: another process does, or the Lease is gone.
            UserError: the cluster does not answer.
        """
        found = self._read()
        if found is None or not self._is_own(found):
            self._lost = True
            notes = dict(found.metadata.annotations or {}) if found else {}
            raise LeaseLostError(f"the Lease {self.name} belongs to another process now", notes)

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
            notes = dict(lease.metadata.annotations or {})
            at_once = bool(holder) and self._takes_over(notes)
            if not holder or at_once or time.monotonic() - since > (lease.spec.lease_duration_seconds or SECONDS):
                if holder and not at_once:
                    say(
                        f"{holder} has not renewed the Lease for {time.monotonic() - since:.0f} s; this process takes over"
                    )
                if self._replace(version, self._next_fence(lease)):
                    self.taken_from = notes if at_once else {}
                    return
                continue
            waiting()
            time.sleep(POLL_SECONDS)

    def _next_fence(self, lease: Any) -> int:
        return max((lease.spec.lease_transitions or 0) + 1, self._lowest_fence)

    def _renew(self, on_loss: Callable[[], None] | None) -> None:
        while not self._done.wait(RENEW_SECONDS):
            # If the API server does not answer, try again; `check` raises when that has taken too long.
            with contextlib.suppress(UserError):
                if not self._replace(self._version, self.fence):
                    self._lost = True
                    if on_loss and not self._done.is_set():
                        on_loss()
                    return

    def _is_own(self, lease: Any) -> bool:
        return (lease.spec.holder_identity, lease.spec.lease_transitions) == (self.holder, self.fence)

    def _read(self) -> Any:
        return none_if_absent(lambda: client.leases().read_namespaced_lease(self.name, self.namespace))

    def _create(self) -> bool:
        api = client.leases()
        return self._write(lambda body: api.create_namespaced_lease(self.namespace, body), "", self._lowest_fence)

    def _replace(self, version: str, fence: int) -> bool:
        api = client.leases()
        return self._write(lambda body: api.replace_namespaced_lease(self.name, self.namespace, body), version, fence)

    def _write(self, send: Callable[[dict[str, Any]], Any], version: str, fence: int) -> bool:
        """Write the Lease as this process's; return False if another process has written it in between."""
        now = time.monotonic()
        try:
            with api_errors():
                made = send(self._body(version, self.holder, fence))
        except (ConflictError, NotFoundError) as error:
            if isinstance(error, NotFoundError) and not version:
                raise UserError(f"the namespace {self.namespace} does not exist") from None
            # A request whose answer was lost is sent again, and then refused: what exists is this process's own.
            made = self._read()
            if made is None or (made.spec.holder_identity, made.spec.lease_transitions) != (self.holder, fence):
                return False
        self._version, self._renewed, self.fence = made.metadata.resource_version, now, fence
        return True

    def _body(self, version: str, holder: str, fence: int) -> dict[str, Any]:
        written = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        metadata: dict[str, Any] = {"name": self.name, "annotations": dict(self._notes)}
        if version:
            metadata["resourceVersion"] = version
        spec = {"holderIdentity": holder, "leaseDurationSeconds": SECONDS, "renewTime": written}
        return {"metadata": metadata, "spec": {**spec, "leaseTransitions": fence}}

    def _give_up(self) -> None:
        if self._lost:
            return
        if self._kept:
            client.leases().replace_namespaced_lease(
                self.name, self.namespace, self._body(self._version, "", self.fence)
            )
            return
        body = {"preconditions": {"resourceVersion": self._version}}
        client.leases().delete_namespaced_lease(self.name, self.namespace, body=body)
