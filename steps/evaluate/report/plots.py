"""Plots as SVG text to embed in a page of HTML: curves, intervals, bars."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass

WIDTH, HEIGHT = 620, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 40
LABELS = 250  # width of the labels to the left of intervals and bars
LONGEST_LABEL = 40  # characters
COLOURS = ("#1f5fa8", "#c05a00", "#2c7a3f", "#7a3fa0")
GREY = "#888"
POINTS = 600  # per curve: about one per pixel; more would only make the page larger


@dataclass(frozen=True)
class Curve:
    """Points, sorted by x."""

    name: str
    points: list[tuple[float, float]]
    dots: bool = False  # drawn as separate dots, not as a line
    faint: bool = False


@dataclass(frozen=True)
class Range:
    """A value with its interval; an infinite end is open, and a value that is NaN is not drawn."""

    name: str
    value: float
    low: float
    high: float


def curves(title: str, x_label: str, y_label: str, drawn: list[Curve]) -> str:
    """Draw curves over a shared x axis; return an empty text if there are no points."""
    drawn = [Curve(c.name, _thinned(_finite(c.points)), c.dots, c.faint) for c in drawn]
    drawn = [curve for curve in drawn if curve.points]
    if not drawn:
        return ""
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    across = _scale(min(min(xs), x_ticks[0]), max(max(xs), x_ticks[-1]), LEFT, WIDTH - RIGHT)
    up = _scale(min(min(ys), y_ticks[0]), max(max(ys), y_ticks[-1]), HEIGHT - BOTTOM, TOP)
    parts = [_grid(y, up(y)) for y in y_ticks]
    parts += [_text(across(x), HEIGHT - BOTTOM + 16, number(x), "middle") for x in x_ticks]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    parts.append(
        f'<text transform="translate(13 {(HEIGHT - BOTTOM + TOP) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    for place, curve in enumerate(drawn):
        colour = GREY if curve.faint else COLOURS[place % len(COLOURS)]
        pixels = [(across(x), up(y)) for x, y in curve.points]
        if curve.dots or len(pixels) == 1:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in pixels]
        else:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
            width = 1 if curve.faint else 2
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        if len(drawn) > 1:
            parts.append(_text(WIDTH - RIGHT - 4, TOP + 12 + 16 * place, curve.name, "end", colour))
    return _figure(title, HEIGHT, parts)


def ranges(title: str, drawn: list[Range]) -> str:
    """Draw values in percent with their intervals, one per line, around a vertical line at 0."""
    drawn = [one for one in drawn if math.isfinite(one.value)]
    if not drawn:
        return ""
    ends = [end for one in drawn for end in (one.low, one.high, one.value) if math.isfinite(end)]
    marks = ticks(min(0.0, *ends), max(0.0, *ends))
    left, height = LABELS, TOP + 30 * len(drawn) + BOTTOM
    across = _scale(min(marks[0], *ends), max(marks[-1], *ends), left, WIDTH - RIGHT - 20)
    parts = []
    for mark in marks:
        x = across(mark)
        stroke = "#444" if mark == 0 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{stroke}"/>')
        parts.append(_text(x, height - BOTTOM + 16, f"{number(mark * 100)}%", "middle"))
    for place, one in enumerate(drawn):
        y = TOP + 15 + 30 * place
        low = across(one.low) if math.isfinite(one.low) else left
        high = across(one.high) if math.isfinite(one.high) else WIDTH - RIGHT
        colour = COLOURS[2] if one.low > 0 else "#a11" if one.high < 0 else GREY
        name = one.name if len(one.name) <= LONGEST_LABEL else f"{one.name[: LONGEST_LABEL - 1]}…"
        parts.append(_text(left - 10, y + 4, name, "end"))
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{across(one.value):.1f}" cy="{y}" r="5" fill="{colour}"/>')
    return _figure(title, height, parts)


def bars(title: str, drawn: list[tuple[str, float, str]]) -> str:
    """Draw bars from 0, one per line, each given by its name, its value and the text that shows the value."""
    if not drawn:
        return ""
    left, height = LABELS, TOP + 30 * len(drawn) + 8
    across = _scale(0, max(max(value for _, value, _ in drawn), 1e-12), 0, WIDTH - RIGHT - 110 - left)
    parts = []
    for place, (name, value, words) in enumerate(drawn):
        y = TOP + 30 * place
        parts.append(_text(left - 10, y + 17, name, "end"))
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{across(value):.1f}" height="18" fill="{colour}"/>')
        parts.append(_text(left + across(value) + 6, y + 17, words, "start"))
    return _figure(title, height, parts)


def ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers that span the range."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def number(value: float) -> str:
    """Format a number for an axis."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def _finite(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= POINTS:
        return points
    return [points[place * (len(points) - 1) // (POINTS - 1)] for place in range(POINTS)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    share = (end - start) / ((high - low) or 1)
    return lambda value: start + (value - low) * share


def _grid(value: float, y: float) -> str:
    line = f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
    return line + _text(LEFT - 6, y + 4, number(value), "end")


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'


def _figure(title: str, height: float, parts: list[str]) -> str:
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{html.escape(title)}" font-size="12" font-family="system-ui,sans-serif">'
        f"{''.join(parts)}</svg></figure>"
    )
