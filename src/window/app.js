/** The page: brings its parts together. */

import './copy.js';
import { History } from './history.js';
import { el, gapText, renderEntry } from './render.js';
import { SendPanel, curl } from './send.js';
import {
  addressOf,
  currentSession,
  forgetSessions,
  newSession,
  recentSessions,
  rememberSession,
} from './session.js';
import { follow } from './share.js';
import { Status } from './status.js';
import { Timeline } from './timeline.js';

/** @typedef {import('./feed.js').Entry} Entry */
/** @typedef {import('./feed.js').Update} Update */

/** At most one announcement in this time. */
const ANNOUNCE_MS = 1_500;
const ANNOUNCED_CHARS_MAX = 200;
const EMPTY_HINT = 'They appear here the moment they are sent. Send one to try it.';

const webhookUrl = new URL('api/webhook', document.baseURI).href;
const streamUrl = new URL('api/webhook/stream', document.baseURI).href;

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const number = new Intl.NumberFormat();

const session = currentSession();
const held = new History(session.id);
const log = byId('log');
/** @type {Timeline<Entry>} */
const timeline = new Timeline(log, (entry, before) => renderEntry(entry, before, session.id), showUnread);
const status = new Status(byId('status'), () => link?.reconnect());
const send = new SendPanel(/** @type {HTMLFormElement} */ (byId('send')), {
  url: webhookUrl,
  sessionId: session.id,
  command: byId('send-curl'),
  answer: byId('answer'),
});

/** @type {import('./share.js').Link | undefined} */
let link;
let onlyMine = false;
let unread = 0;
/** The first part of the history is there. */
let begun = false;
/** The stream was live, and then interrupted. */
let resumed = false;
/** @type {Entry[]} */
let announced = [];
/** @type {ReturnType<typeof setTimeout> | undefined} */
let announcing;

start();

function start() {
  listen();
  showSession();
  showAll();
  if (session.error) {
    status.show({ state: 'refused', reason: 'status', error: session.error });
    return;
  }
  rememberSession(session.id);
  showRecent();
  open();
  addEventListener('pagehide', leave);
  addEventListener('pageshow', ({ persisted }) => persisted && open());
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) held.save();
    else link?.check();
    showUnread();
  });
  document.addEventListener('resume', () => link?.check());
  addEventListener('online', () => {
    if (status.state.state === 'waiting') link?.reconnect();
    else link?.check();
  });
}

function open() {
  link ??= follow({ url: streamUrl, sessionId: session.id, saved: () => held.newest() }, update);
}

/** An open connection would keep the page out of the browser's back-forward cache. */
function leave() {
  held.save();
  link?.close();
  link = undefined;
}

/** @param {Update} news */
function update(news) {
  if (news.type === 'begin') {
    showState(news.state);
    // The page was away for longer than the worker remembers.
    const hole = news.whole || held.entries.length === 0 ? [] : [{ missed: null }];
    take([...hole, ...news.entries], begun);
    begun = true;
  } else if (news.type === 'entries') {
    take(news.entries, resumed);
  } else {
    showState(news.state);
  }
}

/** @param {import('./hookcast.js').State} state */
function showState(state) {
  resumed ||= status.state.state === 'live' && state.state !== 'live';
  status.show(state);
  if (state.state === 'live') byId('empty-hint').textContent = EMPTY_HINT;
}

/**
 * Takes entries in. What a stream replays is history at first, and news after an interruption.
 * @param {Entry[]} entries
 * @param {boolean} replayIsNews
 */
function take(entries, replayIsNews) {
  const { fresh, dropped } = held.add(entries);
  for (const { message } of fresh) if (message) send.arrived(message.id);
  if (dropped.length > 0) timeline.drop(new Set(dropped));
  const shown = fresh.filter(isShown);
  timeline.append(shown);
  showCount();
  const news = shown.filter(({ message }) => replayIsNews || !message?.replay);
  if (begun) announce(news);
  if (document.hidden || !timeline.pinned) unread += news.filter(({ message }) => message).length;
  showUnread();
}

/** @param {Entry} entry */
function isShown({ message }) {
  return !onlyMine || !message || message.sessionId === session.id;
}

function showAll() {
  timeline.replace(held.entries.filter(isShown));
  showCount();
}

function showCount() {
  const messages = held.entries.filter((entry) => entry.message && isShown(entry)).length;
  byId('count').textContent = messages === 1 ? '1 message' : `${number.format(messages)} messages`;
  byId('empty').hidden = messages > 0;
}

/** In the title while the page is in the background, at the jump button while reading back. */
function showUnread() {
  if (!document.hidden && timeline.pinned) unread = 0;
  document.title = unread > 0 ? `(${number.format(unread)}) hookcast` : 'hookcast';
  const jump = byId('jump');
  jump.hidden = timeline.pinned;
  jump.textContent = unread > 0 ? `${number.format(unread)} new: jump to latest` : 'Jump to latest';
}

/**
 * Reads news out. The log itself cannot be the live region: entries that come back into view on
 * scrolling would be read out again.
 * @param {Entry[]} entries
 */
function announce(entries) {
  if (entries.length === 0) return;
  announced.push(...entries);
  announcing ??= setTimeout(() => {
    announcing = undefined;
    const { message, missed } = /** @type {Entry} */ (announced.at(-1));
    const text = message ? message.content.slice(0, ANNOUNCED_CHARS_MAX) : gapText(missed ?? null);
    const lead = announced.length > 1 ? `${announced.length} new messages, the latest: ` : '';
    byId('news').replaceChildren(el('p', {}, lead + text));
    announced = [];
  }, ANNOUNCE_MS);
}

function showSession() {
  byId('session').textContent = session.id;
  byId('session-curl').textContent = curl(webhookUrl, { message: 'Only for you', sessionId: session.id });
  /** @type {HTMLAnchorElement} */ (byId('session-link')).href = addressOf(session.id);
}

function showRecent() {
  const others = recentSessions().filter((id) => id !== session.id);
  byId('recent').hidden = others.length === 0;
  byId('recent').querySelector('ul')?.replaceChildren(
    ...others.map((id) => el('li', {}, el('a', { href: addressOf(id) }, id))),
  );
}

function listen() {
  byId('jump').addEventListener('click', () => {
    timeline.toEnd();
    log.focus({ preventScroll: true });
  });
  byId('new-session').addEventListener('click', newSession);
  byId('forget').addEventListener('click', () => {
    forgetSessions();
    showRecent();
  });
  for (const input of document.querySelectorAll('input[name=filter]')) {
    input.addEventListener('change', () => {
      onlyMine = /** @type {HTMLInputElement} */ (input).value === 'mine';
      showAll();
    });
  }
  const opener = byId('open-panel');
  opener.addEventListener('click', () => showPanel(opener.ariaExpanded !== 'true'));
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape' && opener.ariaExpanded === 'true') showPanel(false);
  });
}

/** On narrow screens the panel opens over the log. */
function showPanel(/** @type {boolean} */ isOpen) {
  const opener = byId('open-panel');
  opener.ariaExpanded = String(isOpen);
  opener.textContent = isOpen ? 'Close' : 'Send a message';
  byId('panel').classList.toggle('open', isOpen);
  if (isOpen) byId('panel').querySelector('textarea')?.focus();
  else opener.focus();
}
