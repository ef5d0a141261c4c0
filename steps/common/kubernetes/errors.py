"""Errors of the Kubernetes API, each as one line."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from steps.common.runtime.errors import UserError

T = TypeVar("T")


class ForbiddenError(UserError):
    """The account lacks the permission; what admission refuses, such as a quota or a policy, is a plain UserError."""


@contextmanager
def api_errors(*expected: int) -> Iterator[None]:
    """Raise API errors as one line each; "not found" passes unchanged.

    Args:
        expected: statuses besides 404 that pass unchanged.

    Raises:
        ForbiddenError: the account lacks the permission.
        UserError: the request was refused, or the API server cannot be reached.
        ApiException: the object does not exist, or the status is an expected one.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == 404 or error.status in expected:
            raise
        raise as_user_error(error) from None
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot reach the cluster: {' '.join(str(reason).split())}") from None


def none_if_absent(call: Callable[[], T]) -> T | None:
    """Return what `call` returns, or None if the object that it reads, changes or deletes does not exist.

    Raises:
        UserError: as `api_errors`.
    """
    from kubernetes.client import ApiException

    with api_errors():
        try:
            return call()
        except ApiException as error:
            if error.status == 404:
                return None
            raise


def as_user_error(error: Exception) -> UserError:
    """Return an ApiException as an error of one line."""
    status, body = getattr(error, "status", 0), getattr(error, "body", "")
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = getattr(error, "reason", "") or str(error)
    # Authorization and admission both answer 403; only authorization writes "cannot", as in "cannot list resource":
    # https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go
    kind = ForbiddenError if status == 403 and " cannot " in str(message) else UserError
    return kind(f"the Kubernetes API answers: {' '.join(str(message).split())}")
