"""The refused requests of refusals.py, and their bodies."""

from collections import namedtuple

Case = namedtuple("Case", "name path status code least")
CASES = [
    Case("denied 401", "/guarded", 401, "not_authenticated", 1),
    Case("denied 403", "/elsewhere", 403, "address_denied", 1),
    Case("unknown 404", "/nowhere", 404, "no_route", 1),
    Case("limited 429", "/limited", 429, "rate_limited", 1),
    Case("oversized 413", "/small", 413, "body_too_large", 20_000),
]
# The length of a body is in the head; a streamed body has no declared length.
Body = namedtuple("Body", "name bytes streamed")
BODIES = [
    Body("30 B", 30, False),
    Body("500 kB", 500_000, False),
    Body("8 MB", 8_000_000, False),
    Body("500 kB streamed", 500_000, True),
]


class Request(namedtuple("Request", "case body url")):
    """One case with one body, to one gateway."""

    @property
    def bytes(self):
        return max(self.body.bytes, self.case.least)

    def words(self):
        """Returns the request in the form that the programs in this folder receive."""
        return {"url": self.url, "bytes": self.bytes, "streamed": self.body.streamed}
