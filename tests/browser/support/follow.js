/** Streams of hookcast.js in Node, with a record of what they report. */

import { connect } from '../../../src/chat/hookcast.js';
import { scripted } from './script.js';

/** A connected stream that records everything it reports; `until` waits for a record. */
export function follow(t, options) {
  const stream = connect(options);
  const log = [];
  const waiting = new Set();
  const note = (entry) => {
    log.push(entry);
    for (const check of waiting) check();
  };
  stream.on('message', ({ content }) => note(content));
  stream.on('gap', ({ missed }) => note(`gap ${missed}`));
  stream.on('state', (state) => note(state));
  t.after(() => stream.close());

  const until = (test) =>
    new Promise((resolve) => {
      const check = () => {
        const found = log.findLast(test);
        if (found === undefined) return;
        waiting.delete(check);
        resolve(found);
      };
      waiting.add(check);
      check();
    });
  return {
    stream,
    log,
    contents: () => log.filter((entry) => typeof entry === 'string'),
    states: () => log.filter((entry) => typeof entry !== 'string').map(({ state, reason }) => reason ?? state),
    message: (content) => until((entry) => entry === content),
    state: (state, reason) => until((entry) => entry.state === state && entry.reason === reason),
    times: (count, state) => until(() => log.filter((entry) => entry.state === state).length >= count),
  };
}

/** A scripted server for the length of the test. */
export async function script(t, ...answers) {
  const server = await scripted(...answers);
  t.after(server.close);
  return server;
}
