"""The loop over `iter_lines` that people write around requests, as text."""

import requests

import report


def listen():
    headers = {"Accept": "text/event-stream", **report.HEADERS}
    with requests.get(report.URL, headers=headers, stream=True) as response:
        response.raise_for_status()
        event_id = ""
        for line in response.iter_lines(decode_unicode=True):
            if line.startswith("id:"):
                event_id = line[3:].strip()
            if line.startswith("data:"):
                report.event(line[5:].strip(), event_id)


report.run(listen)
