"""Which team owns a model's name: the first that had a job for it, for good."""

import time
from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.database.tables import OwnedModel
from api.models.registered_models import is_registered, registered
from api.openai_errors import ApiError
from presets.model_preset import model_presets


def claim(session: Session, team: str, name: str, most: int | None, unfinished: Collection[str] = ()) -> None:
    """Make the team the owner of a model's name, unless it already is, and commit that. The caller holds the team's lock.

    A name counts for the limit if it has a version, or if a job is to make one. So the lock is held until that job exists.

    Args:
        session: of the database, without uncommitted changes.
        team: new owner.
        name: of the model.
        most: how many models the team may own; None: no limit.
        unfinished: names of the models that the team's unfinished jobs are to make.

    Raises:
        ApiError: the name belongs to another team, to a base model, or to a model that was made without the API (409), or the
            team has reached its limit (429).
        UnreachableError: the registry does not answer.
    """
    if session.get(OwnedModel, name) is None and (name in model_presets() or is_registered(name)):
        raise _taken(name)
    if most is not None:
        _check_count(session, team, name, most, unfinished)
    session.rollback()
    try:
        if _take(session, team, name):
            session.commit()
    except IntegrityError:  # another team has just claimed it
        raise _taken(name) from None
    finally:
        session.rollback()


def _check_count(session: Session, team: str, name: str, most: int, unfinished: Collection[str]) -> None:
    names = {one.name for one in owned(session, team)}
    counted = names.intersection(unfinished)
    counted |= registered(names - counted).keys()
    if name not in counted and len(counted) >= most:
        raise ApiError(
            429,
            f"the team owns {len(counted)} models, and its limit is {most}; delete one, or use the suffix of an existing one",
            code="model_limit_exceeded",
        )


def _take(session: Session, team: str, name: str) -> bool:
    """Store that the team owns the name; return whether that was new."""
    found = session.get(OwnedModel, name, populate_existing=True)
    if found is not None and found.team != team:
        raise _taken(name)
    if found is not None and found.deleted_at is None:
        return False
    if found is not None:
        found.deleted_at = None
    else:
        session.add(OwnedModel(name=name, team=team, created_at=int(time.time()), deleted_at=None))
    return True


def _taken(name: str) -> ApiError:
    return ApiError(409, f"the model name {name} is taken; choose another suffix", param="suffix", code="name_taken")


def owned(session: Session, team: str) -> list[OwnedModel]:
    """Return the models that a team owns and has not deleted, the newest first."""
    wanted = select(OwnedModel).where(OwnedModel.team == team, OwnedModel.deleted_at.is_(None))
    return list(session.scalars(wanted.order_by(OwnedModel.created_at.desc(), OwnedModel.name)))


def is_owned(session: Session, team: str, name: str) -> bool:
    """Return whether a team owns a model and has not deleted it."""
    wanted = select(func.count()).select_from(OwnedModel).where(OwnedModel.name == name, OwnedModel.team == team)
    return bool(session.scalar(wanted.where(OwnedModel.deleted_at.is_(None))))


def is_deleted(session: Session, team: str, name: str) -> bool:
    """Return whether a team has owned a model and has deleted it."""
    found = session.get(OwnedModel, name)
    return found is not None and found.team == team and found.deleted_at is not None


def delete(session: Session, team: str, name: str) -> None:
    """Delete a model of a team, and commit that. The name stays the team's, but no longer counts."""
    gone = update(OwnedModel).where(OwnedModel.name == name, OwnedModel.team == team)
    session.execute(gone.values(deleted_at=int(time.time())))
    session.commit()
