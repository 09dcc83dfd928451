"""The decoder of openai's package, over httpx: one connection. The content type is not checked."""

import httpx
from openai._streaming import SSEDecoder

import report


def listen():
    with httpx.stream("GET", report.URL, headers=report.HEADERS, timeout=None) as response:
        for event in SSEDecoder().iter_bytes(response.iter_bytes()):
            report.event(event.data, event.id)


report.run(listen)
