"""The order of a rollout, the same on one machine and in a cluster.

Start, wait until ready, smoke test, live gate, traffic, watch window, champion. If any of these fails, the old version gets
the traffic back, and the log of the new one is kept for inspection. Until it is champion, the version is on trial: if this
process is killed, whoever comes next gives the traffic to the champion.
"""

from collections.abc import Callable
from typing import Protocol

from steps.common.handover.resolved import Resolved
from steps.common.runtime.errors import InterruptedStepError, RefusedError, UnreachableError
from steps.common.runtime.progress import say
from steps.common.storage.record import Record
from steps.rollout.gateway.traffic import Traffic
from steps.rollout.lease.right import TakenOverError
from steps.rollout.trial.live_gate import LiveGate, LiveQuestion, live_gate, smoke
from steps.rollout.trial.watch import WatchResult, watch


class ServingPlace(Protocol):
    """Where versions are served: the new one beside the old one, or instead of it."""

    @property
    def url(self) -> str:
        """The base URL that users have; available after `switch_traffic`."""

    @property
    def new_url(self) -> str:
        """The base URL for testing the new server before it has the traffic; available after `start`."""

    @property
    def old_url(self) -> str | None:
        """The same for the old server; None if there is none."""

    @property
    def old_version(self) -> int | None:
        """The version that serves now; None if none does."""

    def serves_already(self) -> bool:
        """Return whether the version already serves; if so, apply the recipe's settings to its gateway."""

    def why_not_both(self) -> str:
        """Return why the new server does not fit beside the old one; empty if it does."""

    def stop_old(self) -> None:
        """Stop the old server to make room for the new one."""

    def start_old(self) -> bool:
        """Start the old server again if it was stopped; return whether it was.

        Raises:
            RefusedError: it was not ready in time.
        """

    def start(self) -> None:
        """Start the new server and wait until it is ready.

        Raises:
            RefusedError: it was not ready in time.
        """

    def switch_traffic(self) -> None:
        """Send the traffic to the new server."""

    def switch_back(self) -> None:
        """Send the traffic back to the old server; if there was none, to no server."""

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return the request counts of the new or the old server; None if they are not available."""

    def retain_refused(self, reason: str) -> None:
        """Keep what is needed to inspect the refused server, with the reason, until the next rollout."""

    def finish(self) -> None:
        """Keep the old version for a rollback, stopped or running as the recipe says, and delete older ones."""


class RolloutRecord(Record):
    """What happened in a rollout; stored as rollout.json, for people."""

    version: int
    old_version: int | None
    strategy: str = ""
    why: str = ""
    gate: LiveGate | None = None
    watched: WatchResult | None = None
    refused: str = ""  # the reason; empty: the version serves
    failed_in_watch: bool = False  # it was refused with the users' traffic


class UndecidedError(UnreachableError):
    """The registry did not say whether the version has become champion, so it stays on trial."""


def roll_out(
    place: ServingPlace,
    resolved: Resolved,
    record: RolloutRecord,
    asked: list[LiveQuestion],
    *,
    back: bool,
    make_champion: Callable[[], None],
) -> None:
    """Serve the new version, or leave everything as it was.

    Args:
        place: where to serve it.
        resolved: the resolved recipe.
        record: filled in on the way.
        asked: the questions of the evaluation.
        back: this is a rollback: the new version is not compared with the old one, and there is no watch window.
        make_champion: makes the new version the champion, or raises if it certainly is not; UndecidedError if that is unknown.

    Raises:
        RefusedError: the new version failed; the text is the reason.
        TakenOverError: a rollback has taken the right to change what serves; nothing is touched any more.
        UndecidedError: as `make_champion`.
    """
    recipe, serve = resolved.recipe, resolved.recipe.serve
    name, tokens, longest = recipe.name, recipe.evaluate.answer_tokens, recipe.serve.answer_seconds
    record.old_version = place.old_version
    _choose(place, record, serve.strategy)
    in_place = record.strategy == "in-place"
    switched = watching = False
    try:
        if in_place:
            place.stop_old()
        place.start()
        smoke(place.new_url, name, asked, tokens, longest)
        compared = None if back or in_place else place.old_url
        record.gate = live_gate(place.new_url, compared, name, asked, serve, tokens)
        if not record.gate.passed:
            raise RefusedError(record.gate.verdict)
        before, switched = place.traffic(new=False), True
        place.switch_traffic()
        smoke(place.url, name, asked, tokens, longest)
        if record.old_version is not None and not back and serve.watch_seconds:
            watching = True
            record.watched = _watch(place, resolved, record.gate, asked, before)
    except (TakenOverError, InterruptedStepError):
        raise
    except BaseException as error:
        record.failed_in_watch = watching and isinstance(error, RefusedError)
        _undo(place, record, error, switched=switched)
        raise
    try:
        make_champion()
    except (TakenOverError, InterruptedStepError, UndecidedError):
        raise
    except Exception as error:
        _undo(place, record, error, switched=switched)
        raise
    place.finish()


def _watch(
    place: ServingPlace, resolved: Resolved, gate: LiveGate, asked: list[LiveQuestion], before: Traffic | None
) -> WatchResult:
    recipe = resolved.recipe
    return watch(
        place.url,
        recipe.name,
        [question.messages for question in asked] or [[{"role": "user", "content": "Hello"}]],
        recipe.serve,
        recipe.evaluate.answer_tokens,
        lambda: place.traffic(new=True),
        before,
        gate.old_seconds,
    )


def _undo(place: ServingPlace, record: RolloutRecord, error: BaseException, *, switched: bool) -> None:
    """Give the old version its traffic back, and keep what is needed to inspect the new one."""
    record.refused = str(error) if isinstance(error, Exception) else "the rollout was stopped"
    try:
        _restore_old(place, switched=switched)
    except RefusedError as again:
        record.refused += f"; and {again}"
        raise RefusedError(record.refused) from error
    finally:
        place.retain_refused(record.refused)


def _choose(place: ServingPlace, record: RolloutRecord, wanted: str) -> None:
    """Choose between blue-green and in-place, and print the reason."""
    if record.old_version is None:
        record.strategy, record.why = "blue-green", "no version was being served"
    elif wanted != "auto":
        record.strategy, record.why = wanted, "set by serve.strategy"
    elif reason := place.why_not_both():
        record.strategy, record.why = "in-place", reason
    else:
        record.strategy, record.why = "blue-green", "both versions fit side by side"
    say(f"{record.strategy}: {record.why}")


def _restore_old(place: ServingPlace, *, switched: bool) -> None:
    # Whatever the strategy: an earlier rollout in place that was killed may have stopped the old server.
    if place.start_old() or switched:
        place.switch_back()
    if place.old_version is not None:
        say(f"version {place.old_version} has the traffic")
