"""The order of a rollout, the same on one machine and in a cluster.

start, ready, smoke, live gate, traffic, watch window. Whatever fails on the way, the old version has the traffic again,
and the new one is kept for a look.
"""

from typing import Protocol

from pydantic import BaseModel

from steps.common.handover.resolved import Resolved
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import say
from steps.rollout.gateway.traffic import Traffic
from steps.rollout.trial.live_gate import LiveGate, LiveQuestion, live_gate, smoke
from steps.rollout.trial.watch import WatchResult, watch


class ServingPlace(Protocol):
    """Where a new version is served beside an old one, or in its place."""

    @property
    def url(self) -> str:
        """The base URL that the users have."""

    @property
    def new_url(self) -> str:
        """The base URL at which the new server is asked before it has the traffic; known once it has started."""

    @property
    def old_url(self) -> str | None:
        """Likewise the old one's; None where there is none."""

    @property
    def old_version(self) -> int | None:
        """What serves now; None where nothing does."""

    def serves_already(self) -> bool:
        """Tell whether the version is what serves; then what is in front of it is made as the recipe says."""

    def why_not_both(self) -> str:
        """Return why the new server does not fit beside the old one; empty where it does."""

    def stop_old(self) -> None:
        """Make room for the new server."""

    def start_old(self) -> bool:
        """Bring the old server back where it was stopped; tell whether it was.

        Raises:
            RefusedError: it is not in time.
        """

    def start(self) -> None:
        """Start the new server and wait until it is ready.

        Raises:
            RefusedError: it is not in time.
        """

    def switch_traffic(self) -> None:
        """Give the traffic to the new server."""

    def switch_back(self) -> None:
        """Give the traffic to the old server, or to none where there was none."""

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return what was counted of the new server or of the old one; None where that is unknown."""

    def retain_refused(self, reason: str) -> None:
        """Keep the refused server, with the reason, until the next rollout."""

    def finish(self) -> None:
        """Keep the old version to go back to, in the state that the recipe says, and nothing else."""


class RolloutRecord(BaseModel):
    """What a rollout came to."""

    version: int
    old_version: int | None
    strategy: str = ""
    why: str = ""
    gate: LiveGate | None = None
    watched: WatchResult | None = None
    refused: str = ""  # the reason; empty: it serves


def roll_out(
    place: ServingPlace, resolved: Resolved, record: RolloutRecord, asked: list[LiveQuestion], *, back: bool
) -> None:
    """Serve the new version, or leave everything as it was.

    Args:
        place: where.
        resolved: the recipe, and what it was resolved to.
        record: what is noted on the way.
        asked: what the evaluation asked.
        back: a person goes back to it: the version that serves now is no measure, and there is no time to watch.

    Raises:
        RefusedError: the new version failed; the text is the reason.
    """
    recipe, serve = resolved.recipe, resolved.recipe.serve
    name, tokens, longest = recipe.name, recipe.evaluate.answer_tokens, recipe.serve.answer_seconds
    record.old_version = place.old_version
    _choose(place, record, serve.strategy)
    in_place = record.strategy == "in-place"
    switched = False
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
            record.watched = watch(
                place.url,
                name,
                [question.messages for question in asked] or [[{"role": "user", "content": "Hello"}]],
                serve,
                tokens,
                lambda: place.traffic(new=True),
                before,
                record.gate.old_seconds,
            )
    except BaseException as error:
        record.refused = str(error) if isinstance(error, Exception) else "the rollout was stopped"
        try:
            _give_back(place, switched=switched)
        except RefusedError as again:
            record.refused += f"; and {again}"
            raise RefusedError(record.refused) from error
        finally:
            place.retain_refused(record.refused)
        raise
    place.finish()


def _choose(place: ServingPlace, record: RolloutRecord, wanted: str) -> None:
    """Choose between both servers side by side and one after the other, and say why."""
    if record.old_version is None:
        record.strategy, record.why = "blue-green", "nothing served before"
    elif wanted != "auto":
        record.strategy, record.why = wanted, "as serve.strategy says"
    elif reason := place.why_not_both():
        record.strategy, record.why = "in-place", reason
    else:
        record.strategy, record.why = "blue-green", "there is room for both"
    say(f"{record.strategy}: {record.why}")


def _give_back(place: ServingPlace, *, switched: bool) -> None:
    # Whatever the strategy: a rollout in place that was lost before this one may have stopped it.
    if place.start_old() or switched:
        place.switch_back()
    if place.old_version is not None:
        say(f"version {place.old_version} has the traffic")
