// eventsource-parser over fetch: one connection. Reconnecting is left to the caller.
import { createParser } from 'eventsource-parser';
import report from './report.cjs';

try {
  const response = await fetch(report.url, { headers: report.headers });
  const parser = createParser({ onEvent: ({ data, id }) => report.event(data, id), onError: report.error });
  const decoder = new TextDecoder();
  for await (const bytes of response.body) parser.feed(decoder.decode(bytes, { stream: true }));
  report.end();
} catch (error) {
  report.error(error);
  process.exitCode = 1;
}
