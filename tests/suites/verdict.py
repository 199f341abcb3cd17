"""How a suite ends: it returns a figure, raises what it found, or is skipped."""


class Unexpected(Exception):
    """The suite found a fault."""


class Skipped(Exception):
    """A tool is not installed."""


def expect(condition, what):
    """Raises `what` unless the condition is true."""
    if not condition:
        raise Unexpected(what)
