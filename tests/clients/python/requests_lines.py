"""The usual loop over `iter_lines` of requests, as text."""

import requests

import report


def listen():
    headers = {"Accept": "text/event-stream", **report.HEADERS}
    with requests.get(report.URL, headers=headers, stream=True) as response:
        response.raise_for_status()
        event_id, data = "", []
        for line in response.iter_lines(decode_unicode=True):
            name, _, value = line.partition(": ")
            if name == "id":
                event_id = value
            elif name == "data":
                data.append(value)
            elif line == "" and data:
                report.event("\n".join(data), event_id)
                data = []


report.run(listen)
