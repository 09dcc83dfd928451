"""httpx-sse: one connection. Reconnecting is left to the caller."""

import httpx
from httpx_sse import connect_sse

import report


def listen():
    with httpx.Client(timeout=None) as client:
        with connect_sse(client, "GET", report.URL, headers=dict(report.HEADERS)) as source:
            for event in source.iter_sse():
                report.event(event.data, event.id)


report.run(listen)
