"""aiohttp-sse-client: reconnects when a stream ends in order, and raises when it breaks."""

import asyncio

from aiohttp_sse_client import client

import report


async def listen():
    async with client.EventSource(report.URL, headers=dict(report.HEADERS), timeout=None) as source:
        async for event in source:
            report.event(event.data, event.last_event_id)


report.run(lambda: asyncio.run(listen()))
