"""Errors in the format that OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`.

Documented at https://developers.openai.com/api/docs/guides/error-codes. The client chooses its exception by the status.
"""

from typing import Any

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
BUDGET_EXHAUSTED = "budget_exhausted"  # code of the error of a job that has reached its budget
CALLERS_FAULT, OUR_FAULT = "invalid_request_error", "server_error"  # for every other status


class ApiError(Exception):
    """An error that is the answer to a request."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, wait_seconds: int = 0
    ) -> None:
        """Store the answer.

        Args:
            status: HTTP status.
            message: one line: what happened, to what, and what to do next.
            param: field of the request that is wrong.
            code: reason, for programs.
            wait_seconds: time after which the client may retry; 0: not stated.
        """
        super().__init__(message)
        self.status, self.param, self.code, self.wait_seconds = status, param, code, wait_seconds


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    kind = TYPES.get(status, CALLERS_FAULT if status < 500 else OUR_FAULT)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def not_found(kind: str, name: str, param: str) -> ApiError:
    """Return the answer for what does not exist or belongs to another team; a caller must not be able to tell which."""
    return ApiError(
        404,
        f"no such {kind}: {name}; check the id and the team of the API key",
        param=param,
        code=f"{kind.replace(' ', '_')}_not_found",
    )
