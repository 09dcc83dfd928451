// launchdarkly-eventsource, a fork of eventsource 1 with backoff: reconnects by itself.
const { EventSource } = require('launchdarkly-eventsource');
const report = require('./report.cjs');

const source = new EventSource(report.url, { headers: report.headers });
source.onmessage = ({ data, lastEventId }) => report.event(data, lastEventId);
source.onerror = report.error;
