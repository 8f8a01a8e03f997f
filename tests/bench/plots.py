"""The three plots of a run, from what its rows kept: latency through a checkpoint, pause against size, memory against
time. Each is drawn from what is there; None where nothing is."""

from report import median
from svg import Line, Plot, draw

MIB = 1 << 20


def latency_plot(kept):
    """The longest of each tenth of a second, from the cut on: both cuts lie at 0."""
    lines = []
    for color, name in enumerate(("holdfast", "Redis")):
        course = kept.get(f"latency-{name}")
        if not course:
            continue
        took = course["end"] - course["begin"]
        points = [(at - course["begin"], longest / 1e3) for at, _, _, _, longest in course["windows"]]
        lines.append(Line(f"{name}, saved in {took:.1f} s", points, color))
    if not lines:
        return None
    return Plot("Longest update of each 0.1 s; a checkpoint begins at 0", "seconds", "ms", lines, y_log=True)


def pause_plot(kept):
    points = kept.get("pause")
    if not points:
        return None
    lines = []
    for color, name in enumerate(("holdfast", "redis")):
        medians = [(point["size"] / MIB, median(point[name]) * 1e3) for point in points if point[name]]
        if medians:
            lines.append(Line({"holdfast": "holdfast: pause", "redis": "Redis: fork"}[name], sorted(medians), color))
    return Plot("Pause at the start of a checkpoint", "MiB of state", "ms", lines, x_log=True, y_log=True)


def memory_plot(kept):
    lines = []
    for color, name in enumerate(("holdfast", "Redis")):
        course = kept.get(f"memory-{name}")
        if course:
            points = [(at - course["begin"], max(value, 0) / MIB) for at, value in course["samples"]]
            lines.append(Line(name, points, color))
    if not lines:
        return None
    return Plot("Memory above the state; a checkpoint begins at 0, updates at full rate", "seconds", "MiB", lines)


PLOTS = {"latency.svg": latency_plot, "pause.svg": pause_plot, "memory.svg": memory_plot}


def draw_all(kept):
    """Names and texts of the files that can be drawn."""
    plots = {name: make(kept) for name, make in PLOTS.items()}
    return {name: draw(plot) for name, plot in plots.items() if plot}
