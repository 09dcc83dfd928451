/**
 * Downloads messages as JSON lines, each as it was received: the fields that the shared history has too.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

/** @param {Entry[]} entries */
export function download(entries) {
  const lines = entries.flatMap(({ message }) => (message ? [lineOf(message)] : []));
  const url = URL.createObjectURL(new Blob(lines, { type: 'application/jsonl' }));
  const link = document.createElement('a');
  link.href = url;
  // No colons: they are not allowed in file names everywhere.
  link.download = `hookcast-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.jsonl`;
  link.click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** @param {import('./feed.js').Message} message */
function lineOf({ id, content, timestamp, sessionId }) {
  return `${JSON.stringify({ id, content, timestamp, sessionId })}\n`;
}
