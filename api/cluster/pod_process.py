"""What the process of the API's pod needs before it works: certificates, proxies, secrets, and the Kubernetes API."""

from steps.common.kubernetes import client
from steps.common.runtime import certificates, proxies
from steps.common.runtime.secret import strip_secrets


def prepare_process() -> None:
    """Prepare this process, as each step prepares its own; call it before any thread starts.

    Raises:
        UserError: there is neither a service account nor a kubeconfig, or a secret has a control character inside.
    """
    certificates.trust_bundle()
    proxies.bypass_proxies()
    strip_secrets()
    client.connect_as_step(client.SERVER_RETRIES)
