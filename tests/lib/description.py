"""Reads a Varlink interface description, and holds calls and replies against it. Coverage remembers which members were
seen.

Members are named: "Get" a method, "Get(key)" a parameter of it, "Get->value" of its reply; "Arena.mode" a field of a type
or an error; "Checkpoint.state=failed" a value of an enumeration; "NoSuchKey" an error. Fields count as seen when they are
not null."""

import re

TOKEN = re.compile(r"\s+|#[^\n]*|(->|\[\]|\[string\]|[(),:?]|[A-Za-z][A-Za-z0-9_.-]*)")
SIMPLE = {"bool": bool, "int": int, "float": (int, float), "string": str}
INT_MAX = 2**63 - 1

# Types are tuples: (kind,) of SIMPLE and "object"; ("nullable" or "array" or "map", type); ("enum", values);
# ("struct", {field: type}); ("named", name).


def tokens(text):
    position = 0
    while position < len(text):
        found = TOKEN.match(text, position)
        if not found:
            raise ValueError(f"no Varlink: {text[position:position + 40]!r}")
        if found[1]:
            yield found[1]
        position = found.end()


class Description:
    """name; types: {name: fields}; methods: {name: (fields, fields)}; errors: {name: fields}."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.rest = list(tokens(self.text))
        self.types, self.methods, self.errors = {}, {}, {}
        self.expect("interface")
        self.name = self.take()
        while self.rest:
            self.read_member(self.take(), self.take())

    def take(self):
        return self.rest.pop(0)

    def expect(self, token):
        if self.take() != token:
            raise ValueError(f"{token} is missing before {self.rest[:5]}")

    def read_member(self, kind, name):
        table = {"type": self.types, "method": self.methods, "error": self.errors}[kind]
        if name in table:
            raise ValueError(f"{name} is there twice")
        table[name] = self.read_fields()
        if kind == "method":
            self.expect("->")
            table[name] = (table[name], self.read_fields())

    def read_fields(self):
        kind, fields = self.read_group()
        if kind == "enum" and fields:
            raise ValueError(f"an enumeration where fields should be: {fields}")
        return dict(fields)

    def read_group(self):
        """( a, b ) or ( a: type, b: type )"""
        self.expect("(")
        names, fields = [], {}
        while self.rest[0] != ")":
            name = self.take()
            if self.rest[0] == ":":
                self.take()
                fields[name] = self.read_type()
            else:
                names.append(name)
            if self.rest[0] != ")":
                self.expect(",")
        self.take()
        return ("struct", fields) if fields else ("enum", names)

    def read_type(self):
        prefix = {"?": "nullable", "[]": "array", "[string]": "map"}.get(self.rest[0])
        if prefix:
            self.take()
            return (prefix, self.read_type())
        if self.rest[0] == "(":
            return self.read_group()
        name = self.take()
        return (name,) if name in SIMPLE or name == "object" else ("named", name)


class Coverage:
    """Of one description. Replies are checked strictly, and AssertionError says what is wrong."""

    def __init__(self, description):
        self.description = description
        self.seen = set()
        self.replying = True

    # Marking and checking

    def called(self, method, parameters):
        """What a test sends; it may be wrong on purpose, so only what is as declared counts."""
        fields = self.description.methods.get(method, ({}, {}))[0]
        self.replying = False
        for name, value in (parameters or {}).items():
            try:
                if name in fields:
                    self.check(fields[name], value, f"{method}({name})")
            except AssertionError:
                pass
        self.replying = True

    def replied(self, method, parameters):
        self.check_fields(self.description.methods[method][1], parameters, f"{method}->")
        self.seen.add(method)

    def failed(self, error, parameters):
        if error not in self.description.errors:
            raise AssertionError(f"error {error} is not declared")
        self.check_fields(self.description.errors[error], parameters, f"{error}.")
        self.seen.add(error)

    def check_fields(self, fields, value, prefix):
        if not isinstance(value, dict):
            raise AssertionError(f"{prefix} is no object: {value!r}")
        extra = set(value) - set(fields)
        if extra:
            raise AssertionError(f"{prefix} has undeclared {sorted(extra)}: {value!r}")
        for name, kind in fields.items():
            # A value is told where it is null as well: any JSON value is one.
            optional = kind[0] == "nullable" and not (self.replying and kind[1] == ("object",))
            if name not in value and not optional:
                raise AssertionError(f"{prefix}{name} is missing: {value!r}")
            if name in value:
                self.check(kind, value[name], prefix + name)

    def check(self, kind, value, where):
        if kind[0] == "nullable":
            if value is not None:
                self.check(kind[1], value, where)
            return
        good = self.check_value(kind, value, where)
        if not good:
            raise AssertionError(f"{where} is {value!r}, declared as {kind}")
        self.seen.add(where)

    def check_value(self, kind, value, where):
        if kind[0] in SIMPLE:
            return (isinstance(value, SIMPLE[kind[0]]) and isinstance(value, bool) == (kind[0] == "bool") and
                    not (kind[0] == "int" and not -INT_MAX - 1 <= value <= INT_MAX))
        if kind[0] == "enum":
            self.seen.add(f"{where}={value}")
            return value in kind[1]
        if kind[0] == "array":
            for element in value if isinstance(value, list) else ():
                self.check(kind[1], element, where)
            return isinstance(value, list)
        if kind[0] == "named":
            self.check_fields(self.description.types[kind[1]], value, f"{kind[1]}.")
            return True
        if kind[0] == "object":
            return value is not None
        raise AssertionError(f"{where}: a type that is not known here: {kind}")

    # What there is to see

    def members(self):
        description, found = self.description, set(self.description.errors) | set(self.description.methods)
        for name, (parameters, reply) in description.methods.items():
            found |= {f"{name}({field})" for field in parameters} | {f"{name}->{field}" for field in reply}
        for name, fields in (*description.types.items(), *description.errors.items()):
            found |= {f"{name}.{field}" for field in fields}
            for field, kind in fields.items():
                kind = kind[1] if kind[0] == "nullable" else kind
                if kind[0] == "enum":
                    found |= {f"{name}.{field}={value}" for value in kind[1]}
        return found
