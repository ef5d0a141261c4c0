"""Current prices and availability from Karpenter's metrics, as its AWS and Azure providers publish them."""

import os
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from presets.gpu_preset import GpuPreset
from steps.common.runtime.progress import say
from steps.common.runtime.settings import KARPENTER_METRICS_SETTING
from steps.common.web.web_client import local_client

PRICE = "karpenter_cloudprovider_instance_type_offering_price_estimate"
AVAILABLE = "karpenter_cloudprovider_instance_type_offering_available"
LONGEST_SECONDS = 10.0
FIELDS = {"on-demand": "on_demand", "spot": "spot"}


def with_live_prices(presets: list[GpuPreset]) -> tuple[list[GpuPreset], str]:
    """Return the instance types with Karpenter's prices, and the source of these.

    Without the setting, or if the metrics cannot be read, the types keep their dated list prices.
    """
    address = os.environ.get(KARPENTER_METRICS_SETTING, "")
    if not address:
        return presets, ""
    try:
        offerings = _offerings(_read(address))
    except (OSError, ValueError) as error:
        say(f"cannot read Karpenter's metrics at {address} ({error}); using list prices")
        return presets, ""
    if not offerings:
        say(f"Karpenter's metrics at {address} have no prices; using list prices")
        return presets, ""
    now = datetime.now(UTC)
    priced = [_with_price(preset, offerings.get(preset.instance_type, {}), f"{now:%Y-%m-%d}") for preset in presets]
    return priced, f"Karpenter's prices of {now:%Y-%m-%d %H:%M} UTC"


def _read(address: str) -> str:
    import httpx2

    try:
        with local_client(timeout=LONGEST_SECONDS, verify=True) as client:
            return str(client.get(address).raise_for_status().text)
    except httpx2.HTTPError as error:
        raise OSError(str(error) or type(error).__name__) from None


def _offerings(text: str) -> dict[str, dict[str, list[tuple[float, bool]]]]:
    """Return price and availability in each zone, by instance type and capacity type."""
    from prometheus_client.parser import text_string_to_metric_families

    prices: dict[tuple[str, str, str], float] = {}
    available: dict[tuple[str, str, str], bool] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            key = (labels.get("instance_type", ""), labels.get("capacity_type", ""), labels.get("zone", ""))
            if sample.name == PRICE:
                prices[key] = float(sample.value)
            elif sample.name == AVAILABLE:
                available[key] = sample.value > 0
    found: dict[str, dict[str, list[tuple[float, bool]]]] = defaultdict(lambda: defaultdict(list))
    for (kind, capacity, zone), price in prices.items():
        found[kind][capacity].append((price, available.get((kind, capacity, zone), True)))
    return found


def _with_price(preset: GpuPreset, offerings: dict[str, list[tuple[float, bool]]], day: str) -> GpuPreset:
    """Return a type with the lowest price of the zones that have it, or of all zones if it is sold out."""
    if not offerings:
        return preset
    update: dict[str, Any] = {"priced_on": day, "sold_out": ()}
    for capacity, field in FIELDS.items():
        if zones := offerings.get(capacity):
            update[field] = min(price for price, available in zones if available or not any(a for _, a in zones))
            update["sold_out"] += () if any(available for _, available in zones) else (capacity,)
    return preset.model_copy(update=update)
