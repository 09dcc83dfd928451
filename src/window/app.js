/**
 * The page: brings its parts together.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

import './copy.js';
import { History } from './history.js';
import { countOf, el, gapText, renderEntry } from './render.js';
import { curl, runSendPanel } from './send.js';
import * as sessions from './session.js';
import { follow } from './share.js';
import { Status } from './status.js';
import { charEnd } from './text.js';
import { Timeline } from './timeline.js';

/** The time between announcements, and the characters of a message in them. */
const ANNOUNCE_MS = 1_500;
const ANNOUNCED_CHARS_MAX = 200;

/** @type {(id: string) => any} */
const byId = (id) => document.getElementById(id);

// Trusted Types: scripts may be started by address. The content security policy sees to whose.
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
let count = 0;
let unread = 0;
/** The first part of the history is there. */
let begun = false;
/** The stream was live and then interrupted: what it replays now is news. */
let resumed = false;
/** Entries to announce; the latest alone is read out. */
let announced = 0;
/** @type {Entry} */
let latest = {};

runSendPanel(byId('send'), { url, sessionId, command: byId('send-curl'), answer: byId('answer') });
sessions.rememberSession(sessionId);
showSession();
showAll();
listen();
open();

function open() {
  const source = { url: `${url}/stream`, sessionId, saved: () => held.newest() };
  follow(source, onUpdate, (opened) => (link = opened));
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
  const shown = fresh.filter(isShown);
  timeline.append(shown);
  if (dropped.length > 0) timeline.drop(new Set(dropped));
  showCount(count + messagesOf(shown) - messagesOf(dropped.filter(isShown)));
  const news = begun ? shown.filter(({ message }) => replayIsNews || !message?.replay) : [];
  if (document.hidden || !timeline.pinned) unread += messagesOf(news);
  showUnread();
  announce(news);
}

function isShown(/** @type {Entry} */ { message }) {
  return !onlyMine || !message || message.sessionId === sessionId;
}

function messagesOf(/** @type {Entry[]} */ entries) {
  return entries.filter(({ message }) => message).length;
}

function showAll() {
  const shown = held.entries.filter(isShown);
  timeline.replace(shown);
  showCount(messagesOf(shown));
}

function showCount(messages) {
  count = messages;
  byId('count').textContent = countOf(count, 'message');
  byId('empty').hidden = count > 0;
}

/** In the title for who looks elsewhere, at the jump button for who reads back. */
function showUnread() {
  if (!document.hidden && timeline.pinned) unread = 0;
  document.title = unread > 0 ? `(${unread}) hookcast` : 'hookcast';
  byId('jump').hidden = timeline.pinned;
  byId('jump').textContent = unread > 0 ? `${unread} new, jump to latest` : 'Jump to latest';
}

/** Not by the log as the live region: what scrolls back into view would be read again. */
function announce(news) {
  if (news.length === 0) return;
  if (announced === 0) setTimeout(readOut, ANNOUNCE_MS);
  announced += news.length;
  latest = news.at(-1);
}

function readOut() {
  const { message, missed } = latest;
  const text = message ? message.content.slice(0, charEnd(message.content, ANNOUNCED_CHARS_MAX)) : gapText(missed);
  const lead = announced > 1 ? `${announced} new messages, the latest: ` : '';
  byId('news').replaceChildren(el('p', {}, lead + text));
  announced = 0;
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

  byId('jump').onclick = () => {
    timeline.toEnd();
    log.focus({ preventScroll: true });
  };
  byId('new-session').onclick = () => {
    location.search = sessions.addressOf(sessions.makeSession());
  };
  byId('forget').onclick = () => {
    sessions.forgetSessions();
    showSession();
  };
  byId('filter').onchange = ({ target }) => {
    onlyMine = target.value === 'mine';
    showAll();
  };
  byId('open-panel').onclick = () => showPanel(!isPanelOpen());
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape' && isPanelOpen()) showPanel(false);
  });
}

function isPanelOpen() {
  return byId('panel').classList.contains('open');
}

/** On a narrow screen the panel opens over the log. */
function showPanel(isOpen) {
  byId('panel').classList.toggle('open', isOpen);
  byId('open-panel').ariaExpanded = isOpen;
  byId('open-panel').textContent = isOpen ? 'Close' : 'Write';
  byId(isOpen ? 'message' : 'open-panel').focus();
}
