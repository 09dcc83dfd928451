/**
 * The scenario. Each check runs one client against a server of its own and returns the outcome, in the words of
 * the table.
 */

import { Adapter, Deviation, waitFor } from './adapter.js';
import { CHARACTERS } from './characters.js';
import { Relay, afterConnected, inside, lastRetryMs } from './relay.js';
import { STREAM, Server } from './server.js';

const YES = 'yes';
/** The client does not reconnect. The check did, with the last id from the client. */
const CALLER = 'caller';

/** Enough heartbeats for a client that dispatches them to have done so. */
const HEARTBEATS = 5;
/** Nearly the longest message of the default body limit; its line is over 64 KiB. */
const LONG_MESSAGE_BYTES = 65_500;
/** A full server's `retry` is 24 to 36 s, and some clients double it. */
const FULL_PATIENCE_MS = 150_000;
/** Some clients wait for between half and all of the `retry`, as jitter. */
const RETRY_SHARE = 0.45;
/** Characters that the table names; the others are counted. */
const NAMED_MAX = 3;

/** The checks, in the order of the table's columns. */
export const CHECKS = { history, live, heartbeat, characters, split, 'long line': longLine, gap, cut, drain, full };

/** Runs check `name`. The failure of a client is an outcome, too. */
export async function run(name, command) {
  const rig = new Rig(command);
  try {
    return { outcome: await CHECKS[name](rig), cause: rig.report };
  } catch (error) {
    if (!(error instanceof Deviation)) throw error;
    return { outcome: error.message, cause: `${error.cause}; ${rig.report}` };
  } finally {
    await rig.close();
  }
}

/** The last 100 messages, oldest first, each with its id. */
async function history(rig) {
  await rig.serve();
  await rig.server.postNumbered(120);
  const client = await rig.connect();
  await client.saw('message 120');
  return words(await rig.differences(), strays(client));
}

/** Messages posted while the client reads. */
async function live(rig) {
  await rig.serve();
  const client = await rig.connect();
  await rig.server.postNumbered(3);
  await client.saw('message 3');
  return words(await rig.differences(), strays(client));
}

/** Heartbeats are not dispatched, neither before the first id nor after it. */
async function heartbeat(rig) {
  await rig.serve();
  const client = await rig.connect();
  for (const content of ['before an id', 'after an id']) {
    await rig.heartbeats(HEARTBEATS);
    await rig.server.post(content);
    await client.saw(content);
  }
  return words(await rig.differences(), strays(client));
}

/** Each unusual character arrives as sent. */
async function characters(rig) {
  await rig.serve();
  return awkward(rig);
}

/** The same in chunks of one byte, as a proxy may cut them. */
async function split(rig) {
  await rig.serve([], { splits: true });
  return awkward(rig);
}

async function awkward(rig) {
  const client = await rig.connect();
  const expected = [];
  for (const [name, message, content = message] of CHARACTERS) {
    const { messageId } = await rig.server.post(message);
    expected.push({ name, messageId, content });
  }
  await rig.server.post('the last');
  await client.saw('the last');
  const contents = new Map(client.messages.map(({ id, content }) => [id, content]));
  const wrong = expected.filter(({ messageId, content }) => contents.get(messageId) !== content);
  const names = wrong.map(({ name }) => name);
  const more = names.length - NAMED_MAX;
  return words(names.length > 0 && `not ${names.slice(0, NAMED_MAX).join(' ')}${more > 0 ? ` and ${more} more` : ''}`);
}

/** A message of nearly 64 KiB, and the next one. */
async function longLine(rig) {
  await rig.serve();
  const client = await rig.connect();
  await rig.server.post('x'.repeat(LONG_MESSAGE_BYTES));
  await rig.server.post('the last');
  await client.saw('the last');
  return words(await rig.differences(), strays(client));
}

/** Resuming from an id that the server no longer has: `gap` reports the number of lost messages. */
async function gap(rig) {
  await rig.serve();
  await rig.server.postNumbered(150);
  // After a restart the server has the last 100.
  await rig.server.drain();
  await rig.server.restart();
  rig.relay.retarget(rig.server.port);
  const [{ eventId }] = await rig.server.history();
  const client = await rig.connect({ query: `?lastEventId=${eventId.replace(/-51$/, '-10')}` });
  await client.saw('message 150');
  const [said] = client.ofType('gap');
  return words(said?.missed !== 40 && 'no gap', await rig.differences(), strays(client));
}

/** The connection breaks inside an event, and again after `connected`. */
async function cut(rig) {
  await rig.serve();
  await rig.server.postNumbered(5);
  const client = await rig.connect();
  await client.saw('message 5');
  rig.relay.cuts.push(inside('CUT-HERE'), afterConnected);
  await rig.server.post('a message with CUT-HERE in it');
  await rig.follow('both cuts', () => rig.relay.cuts.length === 0);
  await rig.server.post('after the cuts');
  await rig.follow('what came after the cuts', () => rig.contents.includes('after the cuts'));
  return words(rig.byCaller && CALLER, await rig.differences(), ...rig.clients.map(strays));
}

/** SIGTERM: the stream ends in order, and the client reconnects after `retry`. */
async function drain(rig) {
  await rig.serve(['--drain', '1s']);
  await rig.server.postNumbered(5);
  const client = await rig.connect();
  await client.saw('message 5');
  rig.relay.hold();
  await rig.server.drain();
  await rig.server.restart();
  await rig.server.post('after the restart');
  rig.relay.retarget(rig.server.port);
  await rig.follow('what came after the restart', () => rig.contents.includes('after the restart'));
  return words(...rig.comeback(client), await rig.differences(), ...rig.clients.map(strays));
}

/** A full server ends the stream at once: the client reconnects after `retry`, 24 to 36 s. */
async function full(rig) {
  await rig.serve(['--max-connections', '1']);
  await rig.server.post('kept');
  const expected = await rig.server.history();
  const occupant = await rig.server.occupy();
  const client = rig.listen();
  await client.until('the stream is declined', () => rig.relay.connections[0]?.endedAt, FULL_PATIENCE_MS, rig.relay);
  occupant.destroy();
  await rig.follow('the history', () => rig.contents.includes('kept'), FULL_PATIENCE_MS);
  return words(...rig.comeback(client), rig.patience(), rig.differencesFrom(expected), ...rig.clients.map(strays));
}

/** A server, a relay in front of it, and the runs of the client. */
class Rig {
  clients = [];
  byCaller = false;
  #command;
  #open = [];

  constructor(command) {
    this.#command = command;
  }

  async serve(flags = [], relayOptions = {}) {
    this.server = await Server.start('--heartbeat', '100ms', ...flags);
    this.#open.push(this.server);
    this.relay = await Relay.start(this.server.port, relayOptions);
    this.#open.push(this.relay);
  }

  /** Starts the client. */
  listen({ query = '', lastEventId } = {}) {
    const url = `http://127.0.0.1:${this.relay.port}${STREAM}${query}`;
    const client = new Adapter(this.#command, url, lastEventId);
    this.#open.push(client);
    this.clients.push(client);
    return client;
  }

  /** Starts the client and waits for its first event. */
  async connect(options) {
    const client = this.listen(options);
    await client.until('connected is dispatched', () => client.ofType('connected').length > 0);
    return client;
  }

  /** Waits for this many further heartbeats. */
  async heartbeats(count) {
    const enough = this.relay.heartbeats + count;
    await waitFor([this.relay], () => this.relay.heartbeats >= enough, () => `${count} heartbeats`);
  }

  /** Waits until `probe` holds. If the client has ended, starts it again as its caller would. */
  async follow(what, probe, patienceMs) {
    while (!probe()) {
      const client = this.clients.at(-1);
      await waitFor([client, this.relay], () => probe() || client.ended, () => what, patienceMs);
      if (probe()) return;
      this.byCaller = true;
      this.listen({ lastEventId: this.clients.map(({ lastEventId }) => lastEventId).findLast(Boolean) });
    }
  }

  get contents() {
    return this.clients.flatMap(({ contents }) => contents);
  }

  /** Which of client and caller reconnected after a clean end, in words. */
  comeback(client) {
    return this.byCaller ? [CALLER, client.ended !== 'end' && 'fails'] : [];
  }

  /** Whether the client waited for the `retry` at the end of its first stream. */
  patience() {
    const [before, after] = this.relay.connections;
    const isEarly = after.openedAt - before.endedAt < lastRetryMs(before) * RETRY_SHARE;
    return !this.byCaller && isEarly && 'early';
  }

  /** Compares dispatched messages with the server's history. */
  async differences() {
    return this.differencesFrom(await this.server.history());
  }

  differencesFrom(expected) {
    const seen = this.clients.flatMap(({ messages }) => messages);
    const ids = (messages) => messages.map(({ id }) => id);
    const lost = expected.filter(({ id }) => !ids(seen).includes(id));
    const repeated = seen.length - new Set(ids(seen)).size;
    if (lost.length > 0) return `loses ${lost.length}`;
    if (repeated > 0) return `repeats ${repeated}`;
    if (ids(seen).join() !== ids(expected).join()) return 'out of order';
    const isAsPosted = seen.every(({ content }, at) => content === expected[at].content);
    const hasIds = seen.every(({ eventId }, at) => eventId === expected[at].eventId);
    return (!isAsPosted && 'other content') || (!hasIds && 'other ids');
  }

  get report() {
    return this.clients.map(({ report }) => report).join('\n');
  }

  async close() {
    for (const thing of this.#open.reverse()) await thing.close();
  }
}

/** Events that are not JSON: a caller's `JSON.parse` fails on them. */
function strays(client) {
  if (client.broken.length === 0) return undefined;
  return client.broken.every(({ data }) => data === '') ? 'empty events' : 'broken events';
}

/** The outcome in words: falsy ones are dropped, and none at all means yes. */
function words(...found) {
  return [...new Set(found.filter(Boolean))].join(', ') || YES;
}
