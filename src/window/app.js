/**
 * The page: brings its parts together.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

import './copy.js';
import { History } from './history.js';
import { countOf, el, gapText, renderEntry } from './render.js';
import { SendPanel, curl } from './send.js';
import * as sessions from './session.js';
import { follow } from './share.js';
import { Status } from './status.js';
import { Timeline } from './timeline.js';

/** At most one announcement in this time, and the characters of a message in it. */
const ANNOUNCE_MS = 1_500;
const ANNOUNCED_CHARS_MAX = 200;

/** @type {(id: string) => any} */
const byId = (id) => document.getElementById(id);

// The only scripts that may be started by address: the content security policy sees to whose.
/** @type {any} */ (globalThis).trustedTypes?.createPolicy('default', { createScriptURL: String });

const url = new URL('api/webhook', document.baseURI).href;
const sessionId = sessions.currentSession();
const held = new History(sessionId);
const log = byId('log');
/** @type {Timeline<Entry>} */
const timeline = new Timeline(log, (entry, before) => renderEntry(entry, before, sessionId), showUnread);
const status = new Status(byId('status'), () => link?.reconnect());
/** @type {import('./share.js').Link | undefined} */
let link;
let onlyMine = false;
let unread = 0;
/** The first part of the history is there. */
let begun = false;
/** The stream was live and then interrupted: what it replays now is news. */
let resumed = false;
/** @type {Entry[]} */
let announced = [];

new SendPanel(byId('send'), { url, sessionId, command: byId('send-curl'), answer: byId('answer') });
sessions.rememberSession(sessionId);
showSession();
showAll();
listen();
open();

function open() {
  link = follow({ url: `${url}/stream`, sessionId, saved: () => held.newest() }, onUpdate);
}

/** An open connection would keep the page out of the browser's back-forward cache. */
function leave() {
  held.save();
  link?.close();
}

/** @param {import('./feed.js').Update} update */
function onUpdate(update) {
  if (update.type === 'entries') return take(update.entries, resumed);
  const { state } = update;
  resumed ||= status.state.state === 'live' && state.state !== 'live';
  status.show(state);
  if (update.type === 'state') return;
  // Not whole: the page was away for longer than the worker remembers.
  const hole = update.whole ? [] : [{ missed: null }];
  take([...hole, ...update.entries], begun);
  begun = true;
}

/**
 * @param {Entry[]} entries
 * @param {boolean} replayIsNews
 */
function take(entries, replayIsNews) {
  const { fresh, dropped } = held.add(entries);
  if (dropped.length > 0) timeline.drop(new Set(dropped));
  const shown = fresh.filter(isShown);
  timeline.append(shown);
  showCount();
  const news = begun ? shown.filter(({ message }) => replayIsNews || !message?.replay) : [];
  if (document.hidden || !timeline.pinned) unread += news.filter(({ message }) => message).length;
  showUnread();
  announce(news);
}

/** @param {Entry} entry */
function isShown({ message }) {
  return !onlyMine || !message || message.sessionId === sessionId;
}

function showAll() {
  timeline.replace(held.entries.filter(isShown));
  showCount();
}

function showCount() {
  const count = held.entries.filter((entry) => entry.message && isShown(entry)).length;
  byId('count').textContent = countOf(count, 'message');
  byId('empty').hidden = count > 0;
}

/** In the title, for who looks elsewhere; at the jump button, for who reads back. */
function showUnread() {
  if (!document.hidden && timeline.pinned) unread = 0;
  document.title = unread > 0 ? `(${unread}) hookcast` : 'hookcast';
  byId('jump').hidden = timeline.pinned;
  byId('jump').textContent = unread > 0 ? `${unread} new, jump to latest` : 'Jump to latest';
}

/**
 * Reads news out. The log cannot be the live region: what scrolls back into view would be read again.
 * @param {Entry[]} news
 */
function announce(news) {
  if (news.length === 0) return;
  if (announced.length === 0) setTimeout(readOut, ANNOUNCE_MS);
  announced = announced.concat(news);
}

function readOut() {
  const { message, missed } = announced[announced.length - 1];
  const text = message ? message.content.slice(0, ANNOUNCED_CHARS_MAX) : gapText(missed);
  const lead = announced.length > 1 ? `${announced.length} new messages, the latest: ` : '';
  byId('news').replaceChildren(el('p', {}, lead + text));
  announced = [];
}

function showSession() {
  byId('session').textContent = sessionId;
  byId('session-curl').textContent = curl(url, { message: 'Only for you', sessionId });
  byId('session-link').href = sessions.addressOf(sessionId);
  const others = sessions.recentSessions().filter((id) => id !== sessionId);
  const items = others.map((id) => el('li', {}, el('a', { href: sessions.addressOf(id) }, id)));
  byId('recent').querySelector('ul').replaceChildren(...items);
  byId('recent').hidden = others.length === 0;
}

function listen() {
  addEventListener('pagehide', leave);
  addEventListener('pageshow', ({ persisted }) => persisted && open());
  // Timers may have stood still.
  document.addEventListener('resume', () => link?.check());
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) held.save();
    else link?.check();
    showUnread();
  });
  addEventListener('online', () => {
    if (status.state.state === 'waiting') link?.reconnect();
    else link?.check();
  });

  byId('jump').addEventListener('click', () => {
    timeline.toEnd();
    log.focus({ preventScroll: true });
  });
  byId('new-session').addEventListener('click', () => {
    location.search = sessions.addressOf(sessions.makeSession());
  });
  byId('forget').addEventListener('click', () => {
    sessions.forgetSessions();
    showSession();
  });
  byId('filter').addEventListener('change', ({ target }) => {
    onlyMine = target.value === 'mine';
    showAll();
  });
  byId('open-panel').addEventListener('click', () => showPanel(!isPanelOpen()));
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape' && isPanelOpen()) showPanel(false);
  });
}

function isPanelOpen() {
  return byId('panel').classList.contains('open');
}

/**
 * On a narrow screen the panel opens over the log.
 * @param {boolean} isOpen
 */
function showPanel(isOpen) {
  byId('panel').classList.toggle('open', isOpen);
  byId('open-panel').ariaExpanded = isOpen;
  byId('open-panel').textContent = isOpen ? 'Close' : 'Send a message';
  byId(isOpen ? 'message' : 'open-panel').focus();
}
