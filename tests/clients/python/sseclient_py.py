"""sseclient-py over requests: one connection; reconnecting is the caller's."""

import requests
import sseclient

import report


def listen():
    headers = {"Accept": "text/event-stream", **report.HEADERS}
    response = requests.get(report.URL, headers=headers, stream=True)
    for event in sseclient.SSEClient(response).events():
        report.event(event.data, event.id)


report.run(listen)
