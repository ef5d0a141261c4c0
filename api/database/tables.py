"""The tables: teams with their limits, their keys, the names of their files, and which models are theirs.

Jobs have no table. A job is a run, and what it was asked for lies beside the run.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAME_LENGTH = 63


class Table(DeclarativeBase):
    """Base of the tables. Times are Unix seconds."""

    type_annotation_map = {int: BigInteger}


class Team(Table):
    """A team and its limits; None: no limit."""

    __tablename__ = "teams"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    created_at: Mapped[int]
    dollars_a_month: Mapped[float | None]
    jobs_at_once: Mapped[int | None]  # that wait or run
    models: Mapped[int | None]  # that the team owns
    requests_a_minute: Mapped[int | None]


class ApiKey(Table):
    """A key of a team, of which only the hash is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    team: Mapped[str] = mapped_column(ForeignKey("teams.name"), index=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    start: Mapped[str] = mapped_column(String(16))  # its first characters, by which a person recognises it
    created_at: Mapped[int]
    ends_at: Mapped[int | None]  # None: it does not end; revoked: the time of that


class TeamFile(Table):
    """The name under which a team finds a file. The content lies on the runs volume, under its digest."""

    __tablename__ = "files"
    __table_args__ = (Index("files_of_team", "team", "created_at"),)

    id: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    team: Mapped[str] = mapped_column(ForeignKey("teams.name"))
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(NAME_LENGTH))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[int]


class OwnedModel(Table):
    """The team that a model's name belongs to, from its first job on."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    team: Mapped[str] = mapped_column(ForeignKey("teams.name"), index=True)
    created_at: Mapped[int]
    # None: it was not deleted. The name stays the team's: the registry still has its versions, which are not for others.
    deleted_at: Mapped[int | None]
