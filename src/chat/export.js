/**
 * Downloads messages as JSON lines, with the members of the shared history.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

/** @param {Entry[]} entries */
export function download(entries) {
  const lines = entries.flatMap(({ message }) => (message ? [lineOf(message)] : []));
  const url = URL.createObjectURL(new Blob(lines, { type: 'application/jsonl' }));
  const link = document.createElement('a');
  link.href = url;
  // No colons: some systems forbid them in file names.
  link.download = `hookcast-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.jsonl`;
  link.click();
  // The browser reads the URL after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** @param {import('./feed.js').Message} message */
function lineOf({ id, content, timestamp, sessionId, source, event }) {
  return `${JSON.stringify({ id, content, timestamp, sessionId, source, event })}\n`;
}
