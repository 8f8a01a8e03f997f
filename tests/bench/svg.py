"""Plots as SVG: lines over two axes, either of which may be logarithmic. Readable on a light and on a dark background."""

import math
from dataclasses import dataclass, field

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 56, 52

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #333; }
  .title { font-weight: 600; font-size: 15px; }
  .grid { stroke: #ddd; } .axis { stroke: #777; } .band { fill: #8884; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .c0 { stroke: #0969da; } .f0 { fill: #0969da; } .c1 { stroke: #c4432b; } .f1 { fill: #c4432b; }
  .c2 { stroke: #1a7f37; } .f2 { fill: #1a7f37; } .c3 { stroke: #8250df; } .f3 { fill: #8250df; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .grid { stroke: #444; } .axis { stroke: #999; }
    .c0 { stroke: #58a6ff; } .f0 { fill: #58a6ff; } .c1 { stroke: #ff7b72; } .f1 { fill: #ff7b72; }
    .c2 { stroke: #56d364; } .f2 { fill: #56d364; } .c3 { stroke: #bc8cff; } .f3 { fill: #bc8cff; }
  }
"""


@dataclass
class Line:
    """points: (x, y); color: 0 to 3."""
    name: str
    points: list
    color: int = 0
    dots: bool = False


@dataclass
class Plot:
    """bands: (from, to) of x that are shaded, with a name."""
    title: str
    x_name: str
    y_name: str
    lines: list
    x_log: bool = False
    y_log: bool = False
    bands: list = field(default_factory=list)


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Axis:
    """Values to positions; ticks at round numbers."""

    def __init__(self, values, log, begin, end):
        values = [value for value in values if not log or value > 0]
        low, high = (min(values), max(values)) if values else (0, 1)
        self.log, self.begin, self.end = log, begin, end
        if log:
            self.low, self.high = math.floor(math.log10(low)), max(math.ceil(math.log10(high)), math.floor(math.log10(low)) + 1)
        else:
            low = min(low, 0)
            self.step = self._round_step((high - low or 1) / 6)
            self.low, self.high = math.floor(low / self.step) * self.step, math.ceil(max(high, low + self.step) / self.step) * self.step

    @staticmethod
    def _round_step(least):
        power = 10 ** math.floor(math.log10(least))
        return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)

    def at(self, value):
        if self.log:
            value = math.log10(max(value, 10.0 ** self.low))
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self):
        if self.log:
            return [10.0 ** power for power in range(self.low, self.high + 1)]
        return [self.low + self.step * i for i in range(int((self.high - self.low) / self.step + 1.5))]


def tick_text(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def draw_axes(plot, x, y):
    for value in x.ticks():
        at = x.at(value)
        yield f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick_text(value)}</text>'
    for value in y.ticks():
        at = y.at(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick_text(value)}</text>'
    yield f'<path class="axis" fill="none" d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(plot.x_name)}</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text transform="translate(18,{middle}) rotate(-90)" text-anchor="middle">{escape(plot.y_name)}</text>'


def draw_line(line, x, y):
    points = [(x.at(a), y.at(b)) for a, b in line.points]
    if points and not line.dots:
        path = "L".join(f"{a:.1f},{b:.1f}" for a, b in points)
        yield f'<path class="line c{line.color}" d="M{path}"/>'
    if line.dots or len(points) < 10:
        for a, b in points:
            yield f'<circle class="f{line.color}" cx="{a:.1f}" cy="{b:.1f}" r="{2.5 if line.dots else 4}"/>'


def draw_legend(lines):
    at = LEFT
    for line in lines:
        yield f'<rect class="f{line.color}" x="{at}" y="34" width="12" height="12" rx="2"/>'
        yield f'<text x="{at + 18}" y="45">{escape(line.name)}</text>'
        at += 38 + 7 * len(line.name)


def draw(plot):
    """The text of an SVG file."""
    x = Axis([a for line in plot.lines for a, _ in line.points] + [edge for band in plot.bands for edge in band[:2]],
             plot.x_log, LEFT, WIDTH - RIGHT)
    y = Axis([b for line in plot.lines for _, b in line.points], plot.y_log, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
             f'aria-label="{escape(plot.title)}">', f"<style>{STYLE}</style>",
             f'<text class="title" x="{LEFT}" y="22">{escape(plot.title)}</text>']
    for begin, end in plot.bands:
        parts.append(f'<rect class="band" x="{x.at(begin):.1f}" y="{TOP}" width="{x.at(end) - x.at(begin):.1f}" '
                     f'height="{HEIGHT - BOTTOM - TOP}"/>')
    parts += draw_axes(plot, x, y)
    for line in plot.lines:
        parts += draw_line(line, x, y)
    parts += draw_legend([line for line in plot.lines if line.name])
    return "\n".join(parts) + "\n</svg>\n"
