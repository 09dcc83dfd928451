// eventsource 2, long in use in Node programs: reconnects by itself.
const EventSource = require('eventsource-2');
const report = require('./report.cjs');

const source = new EventSource(report.url, { headers: report.headers });
source.onmessage = ({ data, lastEventId }) => report.event(data, lastEventId);
source.onerror = report.error;
