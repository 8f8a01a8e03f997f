#!/usr/bin/env python3
"""Makes the source of io.holdfast(7) for scdoc out of the interface's description: manual.py FILE.varlink >FILE.scd

The comments of the description are the text. A comment that stands before a member tells of that member alone; the one that
stands before a type, method or error tells of it. What frames them is below: how messages travel, which no description tells.
"""
import pathlib
import re
import sys

FRAME = """io.holdfast(7)

# NAME

io.holdfast - the interface of holdfastd

# SYNOPSIS

*{"method": "io.holdfast.*_METHOD_*", "parameters": {*...*}}*

# DESCRIPTION

What *holdfastd*(8) answers at its Unix stream socket, in the protocol Varlink (https://varlink.org): a call is a JSON object with _method_
and _parameters_; so is a reply, with _parameters_, or with _error_ and its parameters. Each message ends in a NUL byte. If the byte behind the
first message's closing brace is a newline, that connection speaks one message a line instead, in both directions.

Calls may be pipelined; replies come in the order of the calls. A call with _"more": true_ asks for a stream: replies with
_"continues": true_ until one without. A call with _"oneway": true_ gets no reply. A reply is below 16 MiB; integers have 64 bits
with sign; the character \\\\u0000 is refused in strings.

In this page _?_ before a type says that the member may be left out or null, _[]_ that it is an array.

"""

BEHIND = """# LIMITS

A key has 1 to 1024 bytes, a value at most 8 MiB and 512 levels of nesting, an Apply at most 65,536 operations, a message at most
_MessageBytesMax=_ of *holdfastd.conf*(5). What is over is answered with LimitExceeded, and nothing has changed.

# ERRORS OF THE PROTOCOL

*org.varlink.service.InvalidParameter* (parameter)
	A parameter is missing, unknown, of another type, or not a value that it may have.

*org.varlink.service.PermissionDenied*
	The caller may not do that; see RIGHTS in *holdfastd*(8).

*org.varlink.service.MethodNotFound* (method), *org.varlink.service.InterfaceNotFound* (interface), *org.varlink.service.MethodNotImplemented* (method)
	There is none of that name.

*org.varlink.service.ExpectedMore*
	The method answers only with _more_.

# EXAMPLES

```
$ echo '{"method":"io.holdfast.Get","parameters":{"arena":"sessions","key":"alice"}}' |
      socat -t 5 - UNIX-CONNECT:/run/holdfast/holdfast.sock
{"parameters":{"value":{"cart":["tea"],"seen":2},"revision":3}}
$ holdfastctl call Get '{"arena":"sessions","key":"alice"}'
```

# SEE ALSO

*holdfastd*(8), *holdfastctl*(1), *libholdfast*(3)
"""


def escape(text):
    """Plain text, for scdoc."""
    text = re.sub(r"([\\*_])", r"\\\1", text)
    return re.sub(r"^([-.#|\[;])", r"\\\1", text)


def split_members(text):
    """The members of "a: int, b: (x, y)": commas within brackets do not part."""
    members, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            members.append(text[start:at])
            start = at + 1
    return [member.strip() for member in members + [text[start:]] if member.strip()]


def member_text(member, comment=""):
    name, _, kind = member.partition(":")
    lines = [f"*{escape(name.strip())}*: {escape(kind.strip())}", ""]
    if comment:
        lines[0] += "\n\t" + escape(comment)
    return "\n".join(lines) + "\n"


def parameters_text(text):
    return ", ".join(f"{escape(m.partition(':')[0].strip())}: {escape(m.partition(':')[2].strip())}"
                     for m in split_members(text))


class Page:
    """Reads the description line by line; each section gathers what belongs to it."""

    def __init__(self):
        self.introduction, self.types, self.methods, self.errors = [], [], [], []
        self.comment = []

    def take_comment(self):
        text, self.comment = " ".join(self.comment), []
        return text

    def type(self, name, lines):
        out = [f"## {escape(name)}\n"]
        about = self.take_comment()
        if about:
            out.append(escape(about) + "\n")
        comment = []
        for line in lines:
            if line.startswith("#"):
                comment.append(line.lstrip("# "))
            elif line:
                out.append(member_text(line.rstrip(","), " ".join(comment)))
                comment = []
        self.types.append("\n".join(out))

    def method(self, name, parameters, reply):
        about = self.take_comment()
        out = f"*{escape(name)}*({parameters_text(parameters)}) -> ({parameters_text(reply)})\n"
        self.methods.append(out + (f"\t{escape(about)}\n" if about else ""))

    def error(self, name, parameters):
        about = self.take_comment()
        out = f"*{escape(name)}* ({parameters_text(parameters)})\n"
        self.errors.append(out + (f"\t{escape(about)}\n" if about else ""))

    def heading(self, text):
        self.methods.append(f"## {escape(text[0].upper() + text[1:])}\n")
        self.comment = []

    def read(self, lines):
        at = 0
        while at < len(lines):
            line = lines[at].strip()
            at += 1
            if match := re.fullmatch(r"# --- (.*)", line):
                self.heading(match[1])
            elif line.startswith("#"):
                self.comment.append(line.lstrip("# "))
            elif line.startswith("interface "):
                self.introduction.append(self.take_comment())
            elif match := re.fullmatch(r"type (\w+) \(", line):
                end = lines.index(")", at)
                self.type(match[1], [inner.strip() for inner in lines[at:end]])
                at = end + 1
            elif match := re.fullmatch(r"method (\w+)\((.*?)\) -> \((.*)\)", line):
                self.method(*match.groups())
            elif match := re.fullmatch(r"error (\w+) \((.*)\)", line):
                self.error(*match.groups())
            elif line:
                sys.exit(f"line {at}: not understood: {line}")

    def text(self):
        return (FRAME + "\n".join(map(escape, self.introduction)) + "\n\n# METHODS\n\n" + "\n".join(self.methods) +
                "\n# TYPES\n\n" + "\n".join(self.types) + "\n# ERRORS\n\n" + "\n".join(self.errors) + "\n" + BEHIND)


def main():
    page = Page()
    page.read(pathlib.Path(sys.argv[1]).read_text(encoding="ascii").splitlines())
    sys.stdout.write(page.text())


main()
