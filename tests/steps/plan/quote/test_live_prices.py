"""Karpenter's prices and availability, read from a real HTTP server with its metrics."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from presets.gpu_preset import GpuPreset, gpu_presets
from steps.common.runtime.settings import KARPENTER_METRICS_SETTING
from steps.plan.quote.live_prices import with_live_prices

PRICE = "karpenter_cloudprovider_instance_type_offering_price_estimate"
AVAILABLE = "karpenter_cloudprovider_instance_type_offering_available"
OFFERINGS = [
    ("g6.xlarge", "on-demand", "a", 0.9, 1),
    ("g6.xlarge", "on-demand", "b", 0.7, 0),
    ("g6.xlarge", "spot", "a", 0.3, 0),
    ("g6.xlarge", "spot", "b", 0.2, 0),
    ("g5.xlarge", "on-demand", "a", 1.2, 1),
    ("g5.xlarge", "spot", "a", 0.4, 1),
]
TEXT = "".join(
    f"# HELP {name} told.\n# TYPE {name} gauge\n"
    + "".join(
        f'{name}{{capacity_type="{capacity}",instance_type="{kind}",zone="{zone}"}} {value}\n'
        for kind, capacity, zone, price, there in OFFERINGS
        for value in [price if name == PRICE else there]
    )
    for name in (PRICE, AVAILABLE)
)


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = {"/metrics": TEXT, "/empty": "# nothing\n"}.get(self.path)
        self.send_response(200 if text is not None else 503)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def told() -> tuple[dict[str, GpuPreset], str]:
    found, where = with_live_prices(gpu_presets("aws"))
    return {preset.instance_type: preset for preset in found}, where


def test_the_lowest_price_of_the_zones_that_have_it_holds(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KARPENTER_METRICS_SETTING, f"{address}/metrics")
    found, where = told()
    assert where.startswith("Karpenter's prices of 20")
    assert (found["g6.xlarge"].on_demand, found["g5.xlarge"].spot) == (0.9, 0.4)
    assert found["g6.xlarge"].sold_out == ("spot",)
    assert found["g6.xlarge"].spot == 0.2
    listed = next(preset for preset in gpu_presets("aws") if preset.instance_type == "p5.4xlarge")
    assert found["p5.4xlarge"] == listed


@pytest.mark.parametrize("path", ["/empty", "/broken"])
def test_where_nothing_can_be_read_the_list_prices_hold(
    path: str, address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KARPENTER_METRICS_SETTING, address + path)
    found, where = told()
    assert where == ""
    assert list(found.values()) == gpu_presets("aws")
    assert "using list prices" in capfd.readouterr().err


def test_without_the_setting_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KARPENTER_METRICS_SETTING, raising=False)
    assert told()[1] == ""
