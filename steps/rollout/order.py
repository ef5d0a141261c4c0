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
from steps.rollout.trial.watch import Watched, watch


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

    def move(self) -> None:
        """Give the traffic to the new server."""

    def move_back(self) -> None:
        """Give the traffic to the old server, or to none where there was none."""

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return what was counted of the new server or of the old one; None where that cannot be told."""

    def keep_for_a_look(self, reason: str) -> None:
        """Keep the refused server, with the reason, until the next rollout."""

    def finish(self) -> None:
        """Keep the old version to go back to, in the state that the recipe says, and nothing else."""


class Told(BaseModel):
    """What a rollout came to."""

    version: int
    old_version: int | None
    strategy: str = ""
    why: str = ""
    gate: LiveGate | None = None
    watched: Watched | None = None
    refused: str = ""  # the reason; empty: it serves


def roll_out(place: ServingPlace, resolved: Resolved, told: Told, asked: list[LiveQuestion], *, back: bool) -> None:
    """Serve the new version, or leave everything as it was.

    Args:
        place: where.
        resolved: the recipe, and what it was resolved to.
        told: what is noted on the way.
        asked: what the evaluation asked.
        back: a person goes back to it: the version that serves now is no measure, and there is no time to watch.

    Raises:
        RefusedError: the new version failed; the text is the reason.
    """
    recipe, serve = resolved.recipe, resolved.recipe.serve
    name, tokens, longest = recipe.name, recipe.evaluate.answer_tokens, recipe.serve.answer_seconds
    told.old_version = place.old_version
    _choose(place, told, serve.strategy)
    in_place = told.strategy == "in-place"
    moved = False
    try:
        if in_place:
            place.stop_old()
        place.start()
        smoke(place.new_url, name, asked, tokens, longest)
        compared = None if back or in_place else place.old_url
        told.gate = live_gate(place.new_url, compared, name, asked, serve, tokens)
        if not told.gate.passed:
            raise RefusedError(told.gate.verdict)
        before, moved = place.traffic(new=False), True
        place.move()
        smoke(place.url, name, asked, tokens, longest)
        if told.old_version is not None and not back and serve.watch_seconds:
            told.watched = watch(
                place.url,
                name,
                [question.messages for question in asked] or [[{"role": "user", "content": "Hello"}]],
                serve,
                tokens,
                lambda: place.traffic(new=True),
                before,
                told.gate.old_seconds,
            )
    except BaseException as error:
        told.refused = str(error) if isinstance(error, Exception) else "the rollout was stopped"
        try:
            _give_back(place, moved=moved)
        except RefusedError as again:
            told.refused += f"; and {again}"
            raise RefusedError(told.refused) from error
        finally:
            place.keep_for_a_look(told.refused)
        raise
    place.finish()


def _choose(place: ServingPlace, told: Told, wanted: str) -> None:
    """Choose between both servers side by side and one after the other, and say why."""
    if told.old_version is None:
        told.strategy, told.why = "blue-green", "nothing served before"
    elif wanted != "auto":
        told.strategy, told.why = wanted, "as serve.strategy says"
    elif reason := place.why_not_both():
        told.strategy, told.why = "in-place", reason
    else:
        told.strategy, told.why = "blue-green", "there is room for both"
    say(f"{told.strategy}: {told.why}")


def _give_back(place: ServingPlace, *, moved: bool) -> None:
    # Whatever the strategy: a rollout in place that was lost before this one may have stopped it.
    if place.start_old() or moved:
        place.move_back()
    if place.old_version is not None:
        say(f"version {place.old_version} has the traffic")
