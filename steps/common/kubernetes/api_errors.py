"""Errors of the Kubernetes API, each as one line."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from steps.common.runtime.errors import UserError

T = TypeVar("T")


class ClusterError(UserError):
    """The Kubernetes API refused a request, or did not answer it."""


class UnansweredError(ClusterError):
    """The cluster cannot be reached, is too busy, or has an error of its own, even when asked again."""


class ForbiddenError(ClusterError):
    """The account lacks the permission; what admission refuses, such as a quota or a policy, is a plain ClusterError."""


class NotFoundError(ClusterError):
    """The object, or the namespace or kind that it would belong to, does not exist."""


class ConflictError(ClusterError):
    """The object exists already, or has been changed since it was read."""


@contextmanager
def api_errors() -> Iterator[None]:
    """Raise what goes wrong between here and the cluster as one line.

    Raises:
        ForbiddenError: the account lacks the permission.
        NotFoundError: the object does not exist.
        ConflictError: the object exists already, or has been changed since it was read.
        UnansweredError: the cluster cannot be reached, or has an error of its own.
        ClusterError: the request was refused for another reason.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError
    from websocket import WebSocketBadStatusException

    try:
        yield
    except ApiException as error:
        # Where a port is to be forwarded, the client hides whatever happened, Ctrl-C too, behind an error with the status 0
        # (`portforward_call` of kubernetes 36).
        hidden = error.__context__ if error.status == 0 else None
        if isinstance(hidden, KeyboardInterrupt | SystemExit):
            raise hidden from None
        if isinstance(hidden, WebSocketBadStatusException):
            raise _judge(hidden.status_code, hidden.resp_body, str(hidden.status_message)) from None
        raise _judge(error.status, error.body, error.reason or str(error)) from None
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise UnansweredError(f"cannot reach the cluster: {' '.join(str(reason).split())}") from None


def none_if_absent(call: Callable[[], T]) -> T | None:
    """Return what `call` returns, or None if the object that it reads, changes or deletes does not exist.

    Raises:
        UserError: as `api_errors`.
    """
    try:
        with api_errors():
            return call()
    except NotFoundError:
        return None


def _judge(status: int, body: Any, otherwise: str) -> ClusterError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = otherwise
    text = f"the Kubernetes API answers: {' '.join(str(message).split())}"
    # Authorization and admission both answer 403; only authorization writes "cannot", as in "cannot list resource":
    # https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go
    if status == 403 and " cannot " in text:
        return ForbiddenError(text)
    if status == 429 or status >= 500:
        return UnansweredError(text)
    return {404: NotFoundError, 409: ConflictError}.get(status, ClusterError)(text)
