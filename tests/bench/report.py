"""Comparisons and what is said of them: medians, spread, ratio, whether what must come out does, and whether that is
more than noise; the table in Markdown, the table of growth with its exponents."""

import math
from dataclasses import asdict, dataclass, field


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass
class AtLeast:
    """Of the ratio: how many times better than the peer."""
    value: float
    kind: str = "ratio"


@dataclass
class AtMost:
    """Of our own value."""
    value: float
    kind: str = "ours"


@dataclass
class Comparison:
    """ours, theirs: a value a round (theirs empty: there is no peer). less: smaller is better. paired: the rounds took
    turns one by one, so a ratio a round makes sense. must: AtLeast, AtMost or None."""
    name: str
    peer: str
    unit: str
    ours: list
    theirs: list = field(default_factory=list)
    less: bool = False
    paired: bool = True
    must: object = None
    note: str = ""

    def ratio(self):
        """How many times better than the peer, or None."""
        if not self.theirs:
            return None
        return self._better(median(self.ours), median(self.theirs))

    def _better(self, ours, theirs):
        above, below = (theirs, ours) if self.less else (ours, theirs)
        return above / below if below > 0 else math.inf

    def ratios(self):
        """The ratio of each round; of rounds that are no pairs, the extremes of what they allow."""
        if not self.theirs:
            return []
        if self.paired:
            return [self._better(a, b) for a, b in zip(self.ours, self.theirs)]
        return [self._better(max(self.ours), min(self.theirs)), self._better(min(self.ours), max(self.theirs))]

    def inside_noise(self):
        """The difference to the peer: rounds disagree on who is better."""
        ratios = self.ratios()
        return bool(ratios) and min(ratios) <= 1 <= max(ratios)

    def holds(self):
        """True, False, or None where nothing must; and whether all rounds agree."""
        if self.must is None:
            return None, True
        if self.must.kind == "ratio":
            if not self.theirs:
                return None, True
            value, values = self.ratio(), self.ratios()
            return value >= self.must.value, min(values) >= self.must.value or max(values) < self.must.value
        value = median(self.ours)
        return value <= self.must.value, max(self.ours) <= self.must.value or min(self.ours) > self.must.value

    def to_json(self):
        holds, agreed = self.holds()
        return {**asdict(self), "median": median(self.ours), "peerMedian": median(self.theirs) if self.theirs else None,
                "ratio": self.ratio(), "insideNoise": self.inside_noise(), "holds": holds, "roundsAgree": agreed}


def from_json(data):
    names = Comparison.__dataclass_fields__
    fields = {name: value for name, value in data.items() if name in names}
    if fields.get("must"):
        fields["must"] = (AtLeast if fields["must"]["kind"] == "ratio" else AtMost)(fields["must"]["value"])
    return Comparison(**fields)


def number(value):
    """Three figures that count, thousands with commas."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def spread(values):
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})" if len(values) > 1 else number(values[0])


def must_text(comparison):
    must = comparison.must
    if must is None:
        return ""
    if must.kind == "ratio":
        return f"{number(must.value)} times"
    return f"at most {number(must.value)} {comparison.unit}".rstrip()


def verdict(comparison):
    holds, agreed = comparison.holds()
    if holds is None:
        return "difference inside the noise" if comparison.inside_noise() else ""
    return ("yes" if holds else "**no**") + ("" if agreed else ", inside the noise")


def table(comparisons):
    """Markdown: median (smallest to largest) of each, and how many times better."""
    lines = ["| what | holdfast | peer | | ratio | must | holds |", "|---|---:|---|---:|---:|---:|---|"]
    for comparison in comparisons:
        unit = f" {comparison.unit}" if comparison.unit else ""
        theirs = spread(comparison.theirs) + unit if comparison.theirs else ""
        name = comparison.name + (f" ({comparison.note})" if comparison.note else "")
        lines.append(f"| {name} | {spread(comparison.ours)}{unit} | {comparison.peer} | {theirs} | {number(comparison.ratio())} "
                     f"| {must_text(comparison)} | {verdict(comparison)} |")
    return "\n".join(lines) + "\n"


def exponent(sizes, values):
    """e of the power law value = c * size^e that fits best: 0 is flat, 1 grows with the state."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values) if value > 0]
    if len(points) < 2:
        return None
    x, y = (sum(column) / len(points) for column in zip(*points))
    below = sum((a - x) ** 2 for a, _ in points)
    return sum((a - x) * (b - y) for a, b in points) / below if below > 0 else None


GROWTH = (("checkpoint", "checkpoint, s", 1), ("pause", "pause, ms", 1e3), ("update", "an update, us", 1e6),
          ("memory", "memory above the state, MiB", 1 / (1 << 20)))


def growth_table(points):
    """points: {"size": bytes, "checkpoint": s, "pause": s, "update": s, "memory": bytes}."""
    sizes = [point["size"] for point in points]
    heads = [f"{size / (1 << 30):g} GiB" for size in sizes]
    lines = ["| | " + " | ".join(heads) + " | exponent |", "|---|" + "---:|" * (len(heads) + 1)]
    for name, title, factor in GROWTH:
        values = [point[name] for point in points]
        power = exponent(sizes, values)
        cells = [number(value * factor) for value in values] + ["" if power is None else f"{power:.2f}"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
