"""Private certificate authorities: of a proxy that intercepts TLS, or of an internal hub or object store.

In a cluster they come from the ConfigMap `fineline-certificates`, which is mounted into every step that may connect to
the outside. Its key `ca.crt` is a PEM bundle that replaces the default one.
"""

import os
from pathlib import Path

FOLDER = Path("/etc/fineline/certificates")
BUNDLE = FOLDER / "ca.crt"
# Python's ssl, pip, requests, libcurl (under Arrow's S3 client) and botocore each read a variable of their own.
SETTINGS = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


def trust_bundle(bundle: Path = BUNDLE) -> None:
    """Make every library of this process and of its children trust the bundle, if it exists."""
    if bundle.is_file():
        os.environ.update(dict.fromkeys(SETTINGS, str(bundle)))
