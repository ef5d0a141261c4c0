"""The settings of the API: environment variables."""

import os
from dataclasses import dataclass

from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import size_in_bytes
from steps.common.storage import volumes

DATABASE_SETTING = "FINELINE_API_DATABASE"  # its URL, as SQLAlchemy writes it
MAX_UPLOAD_SETTING = "FINELINE_API_MAX_UPLOAD"  # size of the largest accepted file
HOST_SETTING = "FINELINE_API_HOST"  # address to listen on
PORT_SETTING = "FINELINE_API_PORT"
MAX_UPLOAD, HOST, PORT = "512MB", "127.0.0.1", "8350"


@dataclass(frozen=True)
class ApiSettings:
    """Where the API listens, what it accepts, and where its database is."""

    database: str  # URL for SQLAlchemy
    max_upload_bytes: int
    host: str
    port: int


def api_settings() -> ApiSettings:
    """Return the settings of this process.

    Raises:
        UserError: a setting has an invalid value.
    """
    try:
        most = size_in_bytes(os.environ.get(MAX_UPLOAD_SETTING) or MAX_UPLOAD)
    except ValueError as error:
        raise UserError(f"{MAX_UPLOAD_SETTING}: {error}") from None
    try:
        port = port_number(os.environ.get(PORT_SETTING) or PORT)
    except ValueError as error:
        raise UserError(f"{PORT_SETTING}: {error}") from None
    return ApiSettings(
        database=os.environ.get(DATABASE_SETTING) or f"sqlite:///{volumes.api_database()}",
        max_upload_bytes=most,
        host=os.environ.get(HOST_SETTING) or HOST,
        port=port,
    )


def port_number(text: str) -> int:
    """Return the port that a text names.

    Raises:
        ValueError: it is not a port number; the message says what to write.
    """
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port number; write 0 to 65535")
    return int(text)
