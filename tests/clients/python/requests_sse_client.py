"""requests-sse: reconnects by itself."""

from requests_sse import EventSource

import report


def listen():
    with EventSource(report.URL, latest_event_id=report.LAST_EVENT_ID or None) as source:
        for event in source:
            report.event(event.data, event.last_event_id)


report.run(listen)
