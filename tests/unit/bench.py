"""What tests/bench/run says of its numbers: ratios, noise, whether what must come out does, exponents; and its plots."""

import os
import sys
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.environ["HOLDFAST_SOURCE"], "tests", "bench"))
from plots import draw_all  # noqa: E402
from report import (AtLeast, AtMost, Comparison, exponent, from_json, growth_table, median, number, table,  # noqa: E402
                    verdict)
from svg import Axis, Line, Plot, draw  # noqa: E402
from tap import equal, run, test  # noqa: E402


def compared(ours, theirs=(), **fields):
    return Comparison("what", "peer", "s", list(ours), list(theirs), **fields)


@test("a ratio says how many times better, whether more or less is")
def _():
    equal(compared([20, 30, 40], [10, 10, 10]).ratio(), 3)
    equal(compared([20, 30, 40], [60, 60, 60], less=True).ratio(), 2)
    equal(compared([1]).ratio(), None)
    equal(median([4, 1, 3, 2]), 2.5)


@test("a difference is inside the noise where rounds disagree on who is better")
def _():
    equal(compared([10, 12, 9], [11, 11, 11]).inside_noise(), True)
    equal(compared([12, 13, 14], [11, 11, 11]).inside_noise(), False)
    # Rounds that are no pairs: the worst of one against the best of the other.
    equal(compared([1, 2, 9], [8, 30], less=True, paired=False).inside_noise(), True)
    equal(compared([1, 2, 7], [8, 30], less=True, paired=False).inside_noise(), False)


@test("what must come out is held against the medians, and told where rounds disagree")
def _():
    equal(verdict(compared([20, 21, 22], [10, 10, 10], must=AtLeast(1.5))), "yes")
    equal(verdict(compared([20, 14, 22], [10, 10, 10], must=AtLeast(1.5))), "yes, inside the noise")
    equal(verdict(compared([10, 16, 11], [10, 10, 10], must=AtLeast(1.5))), "**no**, inside the noise")
    equal(verdict(compared([10, 11], [10, 10], must=AtLeast(1.5))), "**no**")
    equal(verdict(compared([0.5, 0.7, 2], must=AtMost(1))), "yes, inside the noise")
    equal(verdict(compared([1.5, 1.7], must=AtMost(1))), "**no**")
    equal(verdict(compared([5, 5], must=AtLeast(2))), "")  # no peer was measured


@test("a comparison comes back from the results as it went there, and the table has a line for it")
def _():
    for comparison in (compared([1, 2, 3], [2, 2, 2], must=AtLeast(2), note="n"), compared([1], must=AtMost(3))):
        equal(from_json(comparison.to_json()), comparison)
    lines = table([compared([1234, 2345, 3456], [0.5], must=AtLeast(2))]).splitlines()
    equal(len(lines), 3)
    equal(lines[2], "| what | 2,345 (1,234 to 3,456) s | peer | 0.500 s | 4,690 | 2.00 times | yes |")
    equal([number(value) for value in (0, 0.01234, 1.5, 99.95, 1234567)], ["0", "0.0123", "1.50", "100.0", "1,234,567"])


@test("the exponent of growth is that of the power law")
def _():
    sizes = [1 << 30, 2 << 30, 4 << 30, 8 << 30]
    equal(round(exponent(sizes, [3 * size for size in sizes]), 6), 1)
    equal(round(exponent(sizes, [7, 7, 7, 7]), 6), 0)
    equal(round(exponent(sizes, [size ** 0.5 for size in sizes]), 6), 0.5)
    equal(exponent(sizes[:1], [1]), None)
    points = [{"size": size, "checkpoint": size / 1e9, "pause": 3e-4, "update": 5e-6, "memory": 70 << 20} for size in sizes]
    lines = growth_table(points).splitlines()
    equal(lines[0], "| | 1 GiB | 2 GiB | 4 GiB | 8 GiB | exponent |")
    equal(lines[2], "| checkpoint, s | 1.07 | 2.15 | 4.29 | 8.59 | 1.00 |")
    equal(lines[3], "| pause, ms | 0.300 | 0.300 | 0.300 | 0.300 | 0.00 |")


@test("axes have round ticks that enclose the values")
def _():
    axis = Axis([3, 47], False, 0, 100)
    equal(axis.ticks(), [0, 10, 20, 30, 40, 50])
    equal((axis.at(0), axis.at(50)), (0, 100))
    equal(Axis([-1.4977, 3.1], False, 0, 100).ticks(), [-2, -1, 0, 1, 2, 3, 4])
    axis = Axis([0.3, 190], True, 100, 0)
    equal(axis.ticks(), [0.1, 1, 10, 100, 1000])
    equal((round(axis.at(0.1)), round(axis.at(10)), round(axis.at(1000))), (100, 50, 0))
    equal(round(axis.at(0)), 100)  # what a logarithm does not have lies at the edge


@test("plots are XML, whatever is or is not in them")
def _():
    kept = {"latency-holdfast": {"begin": 1.0, "end": 2.0, "windows": [[0.0, 10, 50.0, 90.0, 100.0], [1.0, 10, 50.0, 90.0, 300.0]]},
            "latency-Redis": {"begin": 1.0, "end": 9.0, "windows": [[1.0, 10, 50.0, 90.0, 90000.0]]},
            "pause": [{"size": 1 << 26, "holdfast": [0.0003], "redis": [0.002]}, {"size": 1 << 30, "holdfast": [0.0004], "redis": []}],
            "memory-holdfast": {"begin": 0.1, "end": 1.0, "samples": [[0.0, 0], [0.5, 1 << 26]]}}
    drawn = draw_all(kept)
    equal(sorted(drawn), ["latency.svg", "memory.svg", "pause.svg"])
    for text in drawn.values():
        root = xml.etree.ElementTree.fromstring(text)
        equal(root.tag, "{http://www.w3.org/2000/svg}svg")
        assert "prefers-color-scheme: dark" in text
    assert "Redis, saved in 8.0 s" in drawn["latency.svg"]
    equal(draw_all({}), {})
    xml.etree.ElementTree.fromstring(draw(Plot("a < b & c", "x", "y", [Line("l", [])])))


run()
