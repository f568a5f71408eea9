"""Bars of ratios as an SVG, which reads on light and dark pages alike: it brings its own ground, and follows the
reader's choice of colours where the viewer tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WHOLE = 1.5
"""The ratio at which a bar is as long as can be: where one has more, it ends in an arrow."""

_WIDTH, _LEFT, _RIGHT, _MARGIN = 860, 330, 90, 16
_BAR, _BAR_STEP, _GROUP_GAP, _HEAD = 13, 17, 14, 74
_ARROW = 8
_TICKS = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)
_COLOURS = ("#3b82f6", "#14a38b", "#8b949e", "#e0803a", "#a970d8", "#c9a227")

_STYLE = """\
    text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
    .small { font-size: 11.5px }
    .title { font-size: 15px; font-weight: 600 }
    .ground { fill: #ffffff; stroke: #d1d9e0 }
    .tick { stroke: #d1d9e0 }
    .one { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .ground { fill: #0d1117; stroke: #3d444d }
      .tick { stroke: #3d444d }
      .one { stroke: #e6edf3 }
    }"""


@dataclass(frozen=True)
class Bar:
    """`ratio` is 0 or more. Bars of one title have one colour."""

    title: str
    ratio: float


@dataclass(frozen=True)
class Group:
    """The bars of one measurement."""

    title: str
    bars: tuple[Bar, ...]


def svg(title: str, groups: Sequence[Group], one: str) -> str:
    """The chart. `one` says what the ratio 1 is."""
    titles = dict.fromkeys(bar.title for group in groups for bar in group.bars)
    colours = {each: _COLOURS[at % len(_COLOURS)] for at, each in enumerate(titles)}
    parts: list[str] = []
    y = _HEAD + _GROUP_GAP
    for group in groups:
        height = len(group.bars) * _BAR_STEP
        parts.append(_text(_LEFT - 12, y + height / 2 + 2, group.title, 'text-anchor="end"'))
        for bar in group.bars:
            parts += _drawn(bar, y, colours[bar.title])
            y += _BAR_STEP
        y += _GROUP_GAP
    bottom = y
    parts = [_text(_MARGIN, 26, title, 'class="title"'), *_legend(colours), *_scale(bottom, one), *parts]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 30}" width="{_WIDTH}"'
            f' height="{bottom + 30}" role="img">',
            f"  <title>{escape(title)}</title>",
            f"  <style>\n{_STYLE}\n  </style>",
            f'  <rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{bottom + 29}" rx="6"/>',
            *(f"  {part}" for part in parts),
            "</svg>\n",
        ]
    )


def _legend(colours: dict[str, str]) -> list[str]:
    parts, x = [], _MARGIN
    for title, colour in colours.items():
        parts.append(f'<rect x="{x}" y="40" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 18, 51, title))
        x += 18 + 8 * len(title) + 14
    return parts


def _scale(bottom: int, one: str) -> list[str]:
    parts = []
    for tick in _TICKS:
        x = _x(tick)
        kind = "one" if tick == 1 else "tick"
        parts.append(f'<line class="{kind}" x1="{x}" y1="{_HEAD + 6}" x2="{x}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, f"{tick:g}", 'class="small" text-anchor="middle"'))
    parts.append(_text(_x(1), _HEAD, f"1 = {one}", 'class="small" text-anchor="middle"'))
    return parts


def _drawn(bar: Bar, y: int, colour: str) -> list[str]:
    """The bar, and its ratio at its end."""
    width = round(_x(min(bar.ratio, WHOLE)) - _LEFT, 1)
    parts = [f'<rect x="{_LEFT}" y="{y}" width="{max(width, 1)}" height="{_BAR}" fill="{colour}"/>']
    end = _LEFT + width
    if bar.ratio > WHOLE:
        parts.append(f'<path d="M{end} {y} l{_ARROW} {_BAR / 2} l-{_ARROW} {_BAR / 2} z" fill="{colour}"/>')
        end += _ARROW
    figure = f"{bar.ratio:.2f}" if bar.ratio >= 0.1 else f"{bar.ratio:.2g}"
    parts.append(_text(end + 6, y + 11, f"{figure}x", 'class="small"'))
    return parts


def _x(ratio: float) -> float:
    return round(_LEFT + ratio / WHOLE * (_WIDTH - _LEFT - _RIGHT), 1)


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}"{" " + attributes if attributes else ""}>{escape(text)}</text>'
