"""sseclient: reconnects by itself. It has the module name of sseclient-py, so it is installed apart."""

import contextlib
import os
import sys

sys.path.insert(0, os.path.join(sys.prefix, "sseclient"))
import sseclient

import report


def listen():
    client = sseclient.SSEClient(report.URL, last_id=report.LAST_EVENT_ID or None)
    while True:
        # It prints each break to standard output.
        with contextlib.redirect_stdout(sys.stderr):
            event = next(client)
        report.event(event.data, event.id)


report.run(listen)
