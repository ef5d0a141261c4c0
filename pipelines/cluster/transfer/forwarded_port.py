"""A connection to a port of a pod, forwarded through the API server."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from pipelines.cluster.argo_server import ClusterConnection
from steps.common.kubernetes.api_errors import api_errors
from steps.common.port_forward.pod_conversation import PodConversation

_ports: "WeakKeyDictionary[threading.Thread, ForwardedPort]" = WeakKeyDictionary()


class ForwardedPort:
    """One connection to a pod's port; a context manager that closes it.

    The Kubernetes client carries the data in a thread. If the connection to the API server breaks, that thread ends with an
    error, and leaves this end open (`PortForward._proxy` of kubernetes 36): whoever reads would wait for ever, and Python would
    print a traceback. This end is closed then, and the error is kept.
    """

    def __init__(self, connection: ClusterConnection, pod: str, port: int) -> None:
        """Connect.

        Raises:
            UserError: the pod is not there, or the API server refuses.
        """
        from kubernetes.stream import portforward

        self._port, self._broken = port, ""
        call = connection.core.connect_get_namespaced_pod_portforward
        if not isinstance(threading.excepthook, _ThreadErrors):
            threading.excepthook = _ThreadErrors(threading.excepthook)
        before = set(threading.enumerate())
        with api_errors():
            self._forward = portforward(call, pod, connection.namespace, ports=str(port))
        self._socket: socket.socket = self._forward.socket(port)
        for thread in set(threading.enumerate()) - before:
            _ports[thread] = self
        self.conversation = PodConversation(self._socket)
        self.conversation.be_patient()

    def __enter__(self) -> "ForwardedPort":
        return self

    def __exit__(self, *_: object) -> None:
        self.conversation.source.close()
        self._forward.close()

    def problem(self) -> str:
        """Return why the connection did not work, as the kubelet or the client reports it; empty if neither does."""
        return " ".join(str(self._forward.error(self._port) or self._broken).split())

    def break_off(self, error: BaseException | None) -> None:
        """Wake whoever reads or writes: nothing comes or goes any more."""
        self._broken = f"the connection to the API server broke: {error}"
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class _ThreadErrors:
    """Takes the errors of the client's threads, and leaves those of others to whoever took them before."""

    def __init__(self, others: Callable[[Any], Any]) -> None:
        self._others = others

    def __call__(self, arguments: Any) -> None:
        if found := _ports.get(arguments.thread):
            found.break_off(arguments.exc_value)
        else:
            self._others(arguments)
