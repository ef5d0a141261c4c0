"""The tables of the first release that has the API."""

import sqlalchemy
from alembic import op
from sqlalchemy import BigInteger, Column, Double, ForeignKey, String

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "teams",
        Column("name", String(63), primary_key=True),
        Column("created_at", BigInteger, nullable=False),
        Column("dollars_a_month", Double),
        Column("jobs_at_once", BigInteger),
        Column("models", BigInteger),
        Column("requests_a_minute", BigInteger),
    )
    op.create_table(
        "api_keys",
        Column("id", String(63), primary_key=True),
        Column("team", String(63), ForeignKey("teams.name"), nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("start", String(16), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger),
        sqlalchemy.UniqueConstraint("sha256"),
    )
    op.create_index("ix_api_keys_team", "api_keys", ["team"])
    op.create_table(
        "files",
        Column("id", String(63), primary_key=True),
        Column("team", String(63), ForeignKey("teams.name"), nullable=False),
        Column("filename", String(255), nullable=False),
        Column("purpose", String(63), nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("created_at", BigInteger, nullable=False),
    )
    op.create_index("files_of_team", "files", ["team", "created_at"])
    op.create_index("ix_files_sha256", "files", ["sha256"])
    op.create_table(
        "models",
        Column("name", String(63), primary_key=True),
        Column("team", String(63), ForeignKey("teams.name"), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("deleted_at", BigInteger),
    )
    op.create_index("ix_models_team", "models", ["team"])


def downgrade() -> None:
    """Delete the tables."""
    for table in ("models", "files", "api_keys", "teams"):
        op.drop_table(table)
