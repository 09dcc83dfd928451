/** Prints dispatched events, one JSON object a line. */

const [, , url, lastEventId] = process.argv;
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

module.exports = {
  url,
  headers: lastEventId ? { 'Last-Event-ID': lastEventId } : {},
  event: (data, id) => print({ data, id: id ?? '' }),
  error: (error) => print({ error: String(error?.message ?? error?.type ?? error) }),
  /** The stream ended in order, and the client does not reconnect. */
  end: () => print({ end: true }),
};
