// event-source-polyfill over fetch: reconnects by itself, with the id in the query.
console.error = () => {};
const { EventSourcePolyfill } = require('event-source-polyfill');
const report = require('./report.cjs');

const source = new EventSourcePolyfill(report.url, { headers: report.headers });
source.onmessage = ({ data, lastEventId }) => report.event(data, lastEventId);
source.onerror = report.error;
