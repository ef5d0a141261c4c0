"""Certificate authorities of a company's own: of a proxy that reads TLS, of an inner hub or object store.

In a cluster they are the ConfigMap `fineline-certificates`, mounted where a step may leave the cluster; `ca.crt` in it
is a bundle in PEM that takes the place of the usual one.
"""

import os
from pathlib import Path

FOLDER = Path("/etc/fineline/certificates")
BUNDLE = FOLDER / "ca.crt"
# Python's ssl, pip, requests and libcurl (which Arrow's S3 client is built on) each have a name of their own for it.
SETTINGS = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


def trust_bundle(bundle: Path = BUNDLE) -> None:
    """Let every library of this process, and of those that it starts, trust the bundle, where there is one."""
    if bundle.is_file():
        os.environ.update(dict.fromkeys(SETTINGS, str(bundle)))
