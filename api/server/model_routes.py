"""The routes of models: list, retrieve, delete."""

from collections.abc import Iterable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.database.team_lock import team_lock
from api.models import model_owners
from api.models.served_addresses import ServedModel
from api.openai_errors import ApiError, not_found
from api.paging import MOST, After, Limit, Page, paged
from api.server.authentication import TheCaller
from api.server.services import Services, TheServices
from api.server.unfinished_jobs import unfinished_jobs
from api.teams.caller import Caller
from presets.model_preset import ModelPreset, model_presets
from steps.rollout.lease.right import BusyError

OWNER_OF_BASES = "system"  # as OpenAI has it

router = APIRouter(tags=["Models"])


class ModelObject(BaseModel):
    """A model: one that the team has tuned, or a base model that can be tuned."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    parent: str | None = None  # base model that it was tuned from; null: it is a base model
    version: int | None = None  # the one that is served, or would be
    served: bool = False


class ModelDeleted(BaseModel):
    """Confirms that a model was deleted."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


@router.get("/models")
def list_models(
    by: TheCaller,
    state: TheServices,
    after: After = None,
    limit: Limit = MOST,
) -> Page[ModelObject]:
    """List the models that the team has tuned, the newest first, then the base models that can be tuned."""
    with state.sessions() as session:
        names = [one.name for one in model_owners.owned(session, by.team)]
    known = state.addresses.known(names)
    tuned = [_tuned(name, by.team, known[name]) for name in names if name in known]
    return paged([*tuned, *_bases(model_presets().values())], lambda one: one.id, after, limit)


@router.get("/models/{model}")
def retrieve_model(model: str, by: TheCaller, state: TheServices) -> ModelObject:
    """Return a model: its owner, its base model, its version, and whether it is served."""
    with state.sessions() as session:
        owned = model_owners.is_owned(session, by.team, model)
    if owned and (found := state.addresses.known([model]).get(model)):
        return _tuned(model, by.team, found)
    if model in model_presets() and (bases := list(_bases([model_presets()[model]]))):
        return bases[0]
    raise not_found("model", model, "model")


@router.delete("/models/{model}")
async def delete_model(model: str, by: TheCaller, state: TheServices) -> ModelDeleted:
    """Withdraw every version of a model and stop serving it. A later job with the same suffix makes a new version."""
    await state.changes.run(by.team, _delete, state, by, model)
    return ModelDeleted(id=model)


def _delete(state: Services, by: Caller, model: str) -> None:
    # Under this lock, no job of the team is created.
    with team_lock(state.sessions, by.team), state.sessions() as session:
        _check_deletable(session, by.team, model, state)
        # In this order: after the withdrawal, nothing serves a version anew. The request can be repeated while it is served.
        state.addresses.withdraw(model, f"team {by.team}")
        try:
            state.addresses.stop(model)
        except BusyError:
            raise ApiError(
                409, f"a version of {model} is being rolled out; try again in a minute", wait_seconds=60
            ) from None
        model_owners.delete(session, by.team, model)


def _check_deletable(session: Session, team: str, model: str, state: Services) -> None:
    if not model_owners.is_owned(session, team, model):
        # In a cluster, a run stops what is served after the answer, and may fail.
        if model_owners.is_deleted(session, team, model) and state.addresses.url(model):
            return
        if model in model_presets():
            raise ApiError(403, f"{model} is a base model, which all teams use; delete only tuned models")
        raise not_found("model", model, "model")
    if job := next(unfinished_jobs(state.jobs, [team], lambda job: job.name == model), None):
        raise ApiError(
            409, f"the job {job.id} is tuning {model}; cancel it or wait for it to end, then delete the model"
        )


def _tuned(name: str, team: str, found: ServedModel) -> ModelObject:
    return ModelObject(
        id=name,
        created=found.created_at,
        owned_by=team,
        parent=found.base or None,
        version=found.version,
        served=found.served,
    )


def _bases(presets: Iterable[ModelPreset]) -> Iterable[ModelObject]:
    for preset in presets:
        if not preset.cannot_be_tuned:
            yield ModelObject(id=preset.name, created=0, owned_by=OWNER_OF_BASES)
