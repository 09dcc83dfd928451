// @microsoft/fetch-event-source: reconnects when a stream breaks. After a clean end it does so if the caller
// throws.
globalThis.window = globalThis; // It is written for pages.
globalThis.document = { removeEventListener() {} };
const { fetchEventSource } = require('@microsoft/fetch-event-source');
const report = require('./report.cjs');

fetchEventSource(report.url, {
  headers: report.headers,
  openWhenHidden: true,
  onmessage: ({ data, id }) => report.event(data, id),
  onclose() {
    throw new Error('the stream ended'); // As its README advises: else it would not come back.
  },
  onerror(error) {
    report.error(error); // Returns nothing: it reconnects.
  },
});
