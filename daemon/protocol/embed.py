#!/usr/bin/env python3
"""Embeds interface descriptions: embed.py OUTPUT FILE.varlink...

Writes a header with one row a file, { "name", "text" }, for interface.c to include in its table. The name is the file's, which
must be the one that the text declares.
"""
import pathlib
import re
import sys


def quote(line):
    return '"' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"'


def row(path):
    text = path.read_text(encoding="ascii")
    declared = re.search(r"^interface ([A-Za-z0-9.]+)$", text, re.MULTILINE)
    if declared is None or declared.group(1) != path.name.removesuffix(".varlink"):
        sys.exit(f"{path}: does not declare the interface of its name")
    lines = "\n     ".join(quote(line) for line in text.splitlines())
    return f'    {{"{declared.group(1)}",\n     {lines}}},\n'


def main():
    output, *inputs = map(pathlib.Path, sys.argv[1:])
    output.write_text("".join(row(path) for path in inputs), encoding="ascii")


main()
