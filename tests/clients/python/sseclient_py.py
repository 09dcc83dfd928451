"""sseclient-py over requests: one connection. Reconnecting is left to the caller."""

import requests
import sseclient

import report


def listen():
    headers = {"Accept": "text/event-stream", **report.HEADERS}
    response = requests.get(report.URL, headers=headers, stream=True)
    for event in sseclient.SSEClient(response).events():
        report.event(event.data, event.id)


report.run(listen)
