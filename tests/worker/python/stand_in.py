"""What the programs in this folder share. They stand in for yt-dlp, and report to the worker in its format."""

import json
import os

HOME = os.environ["HOME"]

# The first bytes of an MP4 file.
MP4 = b"\0\0\0\x20ftypisom"


def answer_search(what):
    """Reports `what` as the title of a search's only result."""
    print(json.dumps({"entries": [{"title": json.dumps(what)}]}))


def describe(what):
    """Reports `what` as the title of a download."""
    print("B " + json.dumps({"title": json.dumps(what)}), flush=True)


def finish(path):
    """Reports the file that was downloaded."""
    print("A " + json.dumps({"filepath": path}), flush=True)


def is_allowed(attempt):
    """Tries something, and returns whether the system allows it."""
    try:
        attempt()
        return True
    except OSError:
        return False
