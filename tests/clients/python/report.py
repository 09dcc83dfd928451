"""Prints dispatched events, one JSON object a line."""

import json
import sys

URL, LAST_EVENT_ID = sys.argv[1], sys.argv[2]
HEADERS = {"Last-Event-ID": LAST_EVENT_ID} if LAST_EVENT_ID else {}


def event(data, id):
    _print({"data": data, "id": id or ""})


def error(failure):
    _print({"error": repr(failure)})


def end():
    """The stream ended in order, and the client does not reconnect."""
    _print({"end": True})


def _print(value):
    print(json.dumps(value), flush=True)


def run(listen):
    """Runs a client that returns when its stream ends and raises when it breaks."""
    try:
        listen()
    except Exception as failure:
        error(failure)
        sys.exit(1)
    end()
