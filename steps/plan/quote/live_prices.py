"""Prices and availability of this minute, as Karpenter's providers of AWS and Azure publish them in its metrics."""

import os
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from presets.gpu_preset import GpuPreset
from steps.common.runtime.progress import say
from steps.common.runtime.settings import KARPENTER_METRICS_SETTING

PRICE = "karpenter_cloudprovider_instance_type_offering_price_estimate"
AVAILABLE = "karpenter_cloudprovider_instance_type_offering_available"
LONGEST_SECONDS = 10.0
FIELDS = {"on-demand": "on_demand", "spot": "spot"}


def with_live_prices(presets: list[GpuPreset]) -> tuple[list[GpuPreset], str]:
    """Return the instance types with Karpenter's own prices, and where these come from.

    Without the setting, or where nothing can be read there, they come back as they are: the list prices hold, with the
    day that stands beside them.
    """
    address = os.environ.get(KARPENTER_METRICS_SETTING, "")
    if not address:
        return presets, ""
    try:
        offerings = _offerings(_read(address))
    except (OSError, ValueError) as error:
        say(f"Karpenter's metrics at {address} cannot be read ({error}): the list prices hold")
        return presets, ""
    if not offerings:
        say(f"Karpenter's metrics at {address} have no prices: the list prices hold")
        return presets, ""
    now = datetime.now(UTC)
    told = [_told(preset, offerings.get(preset.instance_type, {}), f"{now:%Y-%m-%d}") for preset in presets]
    return told, f"prices that Karpenter told at {now:%Y-%m-%d %H:%M} UTC"


def _read(address: str) -> str:
    import httpx2

    try:
        return httpx2.get(address, timeout=LONGEST_SECONDS, follow_redirects=True).raise_for_status().text
    except httpx2.HTTPError as error:
        raise OSError(str(error) or type(error).__name__) from None


def _offerings(text: str) -> dict[str, dict[str, list[tuple[float, bool]]]]:
    """Return price and availability in each zone, by instance type and capacity type."""
    from prometheus_client.parser import text_string_to_metric_families

    prices: dict[tuple[str, str, str], float] = {}
    there: dict[tuple[str, str, str], bool] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            key = (labels.get("instance_type", ""), labels.get("capacity_type", ""), labels.get("zone", ""))
            if sample.name == PRICE:
                prices[key] = float(sample.value)
            elif sample.name == AVAILABLE:
                there[key] = sample.value > 0
    found: dict[str, dict[str, list[tuple[float, bool]]]] = defaultdict(lambda: defaultdict(list))
    for (kind, capacity, zone), price in prices.items():
        found[kind][capacity].append((price, there.get((kind, capacity, zone), True)))
    return found


def _told(preset: GpuPreset, offerings: dict[str, list[tuple[float, bool]]], day: str) -> GpuPreset:
    """Return a type with the lowest price of the zones that have it, or of all where none has."""
    if not offerings:
        return preset
    update: dict[str, Any] = {"priced_on": day, "sold_out": ()}
    for capacity, field in FIELDS.items():
        if zones := offerings.get(capacity):
            update[field] = min(price for price, there in zones if there or not any(t for _, t in zones))
            update["sold_out"] += () if any(there for _, there in zones) else (capacity,)
    return preset.model_copy(update=update)
