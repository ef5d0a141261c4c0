"""Redirects and tokens over real connections: in a network of its own, where an address of the internet is this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from steps.common.runtime.errors import UserError
from steps.common.web.trusted_hosts import check_address, check_scheme, check_token, is_public, may_be_sent_a_token
from steps.release.outcome import Outcome
from steps.release.webhook import notify

PUBLIC = "93.184.215.14"
# Serves on an address of the internet and on private ones; asks for what its arguments say and prints what it gets.
SCRIPT = """
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from steps.common.runtime.errors import UserError, InterruptedReadError
from steps.common.weights.sources.listing import SourceFile
from steps.common.weights.sources.small_file import read_small
from steps.pull.reading.http_reader import Web
from steps.plan.data.local_copy import fetch

target, way, origin = sys.argv[1:]
asked = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.server.server_address[0]
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked.append(host)
        body = b'{"prompt": "a", "completion": "b"}\\n' * 3
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

for address in ("93.184.215.14", "10.1.2.3", "127.0.0.1", "169.254.169.254"):
    threading.Thread(target=ThreadingHTTPServer((address, 8080), Handler).serve_forever, daemon=True).start()
url = f"http://{origin}:8080/moved/rows.jsonl" if target != "none" else f"http://{origin}:8080/rows.jsonl"
try:
    if way == "small":
        read_small(SourceFile(name="config.json", bytes=1, url=url))
    elif way == "large":
        web = Web(1)
        for _ in range(2):
            b"".join(web.read(SourceFile(name="rows.jsonl", bytes=0, url=url), 0, 0))
    else:
        fetch(url)
    print("got it from", *asked)
except UserError as error:
    print("refused:", error, *asked)
"""


def in_own_network(tmp_path: Path, target: str, way: str, origin: str = PUBLIC, **settings: str) -> str:
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("there is no unshare or ip")
    (tmp_path / "script.py").write_text(SCRIPT)
    addresses = "; ".join(f"ip addr add {one}/32 dev lo" for one in (PUBLIC, "10.1.2.3", "169.254.169.254"))
    line = f'ip link set lo up; {addresses}; exec "$0" "$@"'
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", line, sys.executable, str(tmp_path / "script.py")]
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [*command, target, way, origin], env={**kept, **settings}, capture_output=True, text=True, check=False
    )
    if "unshare failed" in done.stderr:
        pytest.skip("no network namespace can be made")
    assert done.stdout, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("way", ["small", "large", "data"])
def test_no_redirect_leads_from_the_internet_into_the_private_network(way: str, tmp_path: Path) -> None:
    for private in ("10.1.2.3", "127.0.0.1"):
        told = in_own_network(tmp_path, f"http://{private}:8080/rows.jsonl", way)
        assert told.startswith("refused: ")
        assert f"{private}: a public address redirects to it, and it is private ({private})" in told
        assert told.endswith("FINELINE_TRUSTED_HOSTS")  # and nothing was asked of it
    told = in_own_network(tmp_path, "http://10.1.2.3:8080/rows.jsonl", way, FINELINE_TRUSTED_HOSTS="other, 10.1.2.3")
    assert told.startswith("got it from 10.1.2.3")
    assert in_own_network(tmp_path, f"http://{PUBLIC}:8080/rows.jsonl", way).startswith(f"got it from {PUBLIC}")
    # A mirror in the private network is the user's own.
    told = in_own_network(tmp_path, "http://127.0.0.1:8080/rows.jsonl", way, origin="10.1.2.3")
    assert told.startswith("got it from 127.0.0.1")


@pytest.mark.parametrize("way", ["small", "large", "data"])
def test_the_metadata_of_a_cloud_is_never_asked(way: str, tmp_path: Path) -> None:
    for target, origin in (("none", "169.254.169.254"), ("http://169.254.169.254:8080/rows.jsonl", "10.1.2.3")):
        told = in_own_network(tmp_path, target, way, origin, FINELINE_TRUSTED_HOSTS="169.254.169.254")
        assert told.startswith("refused: ")
        assert told.endswith("169.254.169.254, where a cloud keeps a machine's credentials; it is never asked")


def test_a_redirect_leaves_https_never() -> None:
    check_scheme("http://a/x", "https://b/x")
    for target in ("http://a/x", "ftp://a/x", "file:///etc/passwd"):
        with pytest.raises(UserError, match=r"redirects from https to (http|ftp|file), which is not followed"):
            check_scheme("https://me:pw@a/x?sig=1", target)


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://huggingface.co/x", True),
        ("http://huggingface.co/x", False),
        ("http://127.0.0.1:99/x", True),
        ("http://[::1]:99/x", True),
        ("http://localhost/x", True),
        ("http://10.0.0.1/x", False),
        ("http://mirror.internal:8080/x", True),
        ("http://mirror.internal.example.org/x", False),
        ("http://localhost.example.org/x", False),
    ],
)
def test_a_token_goes_to_https_this_machine_and_trusted_hosts(
    url: str, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINELINE_TRUSTED_HOSTS", "Mirror.internal")
    assert may_be_sent_a_token(url) is may


def test_a_hub_over_plain_http_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from steps.common.weights.sources.hub import HubHeaders, list_hub
    from steps.plan.data.hub_file import find_remote

    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example.org")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    line = "^http://hub.example.org.*: is not https, and HF_TOKEN would be sent in the clear; use https, or add"
    for ask in (
        lambda: list_hub("hf://org/tiny"),
        lambda: find_remote("hf://datasets/org/tiny/rows.jsonl"),
        lambda: HubHeaders().for_url("http://hub.example.org/org/tiny/resolve/main/config.json"),
    ):
        with pytest.raises(UserError, match=line):
            ask()
    assert HubHeaders().for_url("https://elsewhere.example.org/x") == {}
    monkeypatch.setenv("FINELINE_TRUSTED_HOSTS", "hub.example.org")
    assert "authorization" in HubHeaders().for_url("http://hub.example.org/x")
    with pytest.raises(UserError):
        check_token("http://other.example.org", "HF_TOKEN")


@pytest.mark.parametrize("address", ["::ffff:169.254.169.254", "fe80::1%eth0", "fd00:ec2::254", "169.254.1.1"])
def test_every_form_of_a_link_local_address_is_known(address: str) -> None:
    with pytest.raises(UserError, match="it is never asked"):
        check_address("host", address, from_public=False)


def test_shared_and_mapped_addresses_are_not_public() -> None:
    assert not any(is_public(one) for one in ("::ffff:10.0.0.1", "100.64.0.1", "0.0.0.0", "fc00::1", "not-an-address"))
    assert is_public("2606:4700::1111")


def test_a_webhook_over_plain_http_is_not_posted(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(
        run="r", model="m", state="Failed", reason="x", version="", url="", seconds=1.0, cost=None, link=""
    )
    assert not notify("http://hooks.example.org/T0/secret", outcome)
    assert "its URL is not https; use https, or add its host to FINELINE_TRUSTED_HOSTS" in capsys.readouterr().err
