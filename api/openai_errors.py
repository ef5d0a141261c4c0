"""Errors in the form that OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`.

Documented at https://developers.openai.com/api/docs/guides/error-codes. The client raises by the status.
"""

from typing import Any

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
CALLERS_FAULT, OUR_FAULT = "invalid_request_error", "server_error"  # of any other status


class ApiError(Exception):
    """An answer that refuses a request."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, wait_seconds: int = 0
    ) -> None:
        """Store the answer.

        Args:
            status: of HTTP.
            message: one line: what happened, to what, and what to do.
            param: field of the request that is wrong.
            code: for programs.
            wait_seconds: after which the request may be repeated; 0: not said.
        """
        super().__init__(message)
        self.status, self.param, self.code, self.wait_seconds = status, param, code, wait_seconds


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    kind = TYPES.get(status, CALLERS_FAULT if status < 500 else OUR_FAULT)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def not_found(kind: str, name: str, param: str) -> ApiError:
    """Return the answer for what does not exist, or belongs to another team, which must not be told apart."""
    return ApiError(404, f"no such {kind}: {name}", param=param, code=f"{kind.replace(' ', '_')}_not_found")
