// The current eventsource, over fetch: reconnects by itself.
import { EventSource } from 'eventsource';
import report from './report.cjs';

const withHeaders = (input, init) => fetch(input, { ...init, headers: { ...report.headers, ...init.headers } });
const source = new EventSource(report.url, { fetch: withHeaders });
setInterval(() => {}, 1_000); // It lets a process end that has nothing else to do while it waits.
source.onmessage = ({ data, lastEventId }) => report.event(data, lastEventId);
source.onerror = report.error;
