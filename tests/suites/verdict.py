"""How a suite ends: with its figure, by raising what it found, or skipped."""


class Unexpected(Exception):
    """Something is not as it must be."""


class Skipped(Exception):
    """A tool is not there."""


def expect(condition, what):
    """Raises `what` unless the condition holds."""
    if not condition:
        raise Unexpected(what)
