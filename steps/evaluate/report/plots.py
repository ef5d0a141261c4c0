"""Plots as SVG text that stands inside a page and loads nothing: curves, intervals, bars."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass

WIDTH, HEIGHT = 620, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 40
LABELS = 250  # of what stands at the left of intervals and bars
LONGEST_LABEL = 40  # letters
COLOURS = ("#1f5fa8", "#c05a00", "#2c7a3f", "#7a3fa0")
GREY = "#888"
POINTS = 600  # of a curve: more than there are pixels would only make the page larger


@dataclass(frozen=True)
class Curve:
    """Points in the order of x."""

    name: str
    points: list[tuple[float, float]]
    dots: bool = False  # marked and not joined
    faint: bool = False


@dataclass(frozen=True)
class Range:
    """A value with its interval; an end that is None has no bound."""

    name: str
    value: float | None
    low: float | None
    high: float | None


def curves(title: str, x_label: str, y_label: str, drawn: list[Curve]) -> str:
    """Return curves over a common x."""
    kept = [Curve(c.name, _thinned(_finite(c.points)), c.dots, c.faint) for c in drawn]
    kept = [curve for curve in kept if curve.points]
    if not kept:
        return ""
    xs = [x for curve in kept for x, _ in curve.points]
    ys = [y for curve in kept for _, y in curve.points]
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
    for place, curve in enumerate(kept):
        colour = GREY if curve.faint else COLOURS[place % len(COLOURS)]
        where = [(across(x), up(y)) for x, y in curve.points]
        if curve.dots or len(where) == 1:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in where]
        else:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
            width = 1 if curve.faint else 2
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        if len(kept) > 1:
            parts.append(_text(WIDTH - RIGHT - 4, TOP + 12 + 16 * place, curve.name, "end", colour))
    return _figure(title, HEIGHT, parts)


def ranges(title: str, drawn: list[Range]) -> str:
    """Return values in per cent with their intervals, one a line, around a line at 0."""
    kept = [one for one in drawn if one.value is not None]
    if not kept:
        return ""
    ends = [end for one in kept for end in (one.low, one.high, one.value) if end is not None]
    marks = ticks(min(0.0, *ends), max(0.0, *ends))
    left, height = LABELS, TOP + 30 * len(kept) + BOTTOM
    across = _scale(min(marks[0], *ends), max(marks[-1], *ends), left, WIDTH - RIGHT - 20)
    parts = []
    for mark in marks:
        x = across(mark)
        stroke = "#444" if mark == 0 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{stroke}"/>')
        parts.append(_text(x, height - BOTTOM + 16, f"{number(mark * 100)} %", "middle"))
    for place, one in enumerate(kept):
        y = TOP + 15 + 30 * place
        low = across(one.low) if one.low is not None else left
        high = across(one.high) if one.high is not None else WIDTH - RIGHT
        colour = COLOURS[2] if (one.low or 0) > 0 else "#a11" if (one.high or 0) < 0 else GREY
        name = one.name if len(one.name) <= LONGEST_LABEL else f"{one.name[: LONGEST_LABEL - 1]}…"
        parts.append(_text(left - 10, y + 4, name, "end"))
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{across(one.value or 0):.1f}" cy="{y}" r="5" fill="{colour}"/>')
    return _figure(title, height, parts)


def bars(title: str, drawn: list[tuple[str, float, str]]) -> str:
    """Return bars from 0, one a line: name, value, and the value in words."""
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
    """Return some round numbers that span the range."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def number(value: float) -> str:
    """Return a number as an axis has it."""
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
