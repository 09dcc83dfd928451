/**
 * The main module of the page: connects its parts.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

import './copy.js';
import { countOf, el } from './elements.js';
import { download } from './export.js';
import { History } from './history.js';
import { gapText, renderEntry } from './render.js';
import { Marks, patternOf } from './search.js';
import { curl, runSendPanel } from './send.js';
import * as sessions from './session.js';
import { follow } from './share.js';
import { Shown, messagesOf } from './shown.js';
import { Status } from './status.js';
import { charEnd } from './text.js';
import { Timeline } from './timeline.js';

/** The time between announcements, and the characters of a message in them. */
const ANNOUNCE_MS = 1_500;
const ANNOUNCED_CHARS_MAX = 200;
/** The pause in typing that starts a search. */
const TYPING_MS = 120;

/** @type {(id: string) => any} */
const byId = (id) => document.getElementById(id);

// Trusted Types: the worker may be started by URL. The content security policy limits URLs to this server.
/** @type {any} */ (globalThis).trustedTypes?.createPolicy('default', { createScriptURL: String });

const url = new URL('api/webhook', document.baseURI).href;
const sessionId = sessions.currentSession();
const held = new History(sessionId);
const log = byId('log');
/** @type {Timeline<Entry>} */
const timeline = new Timeline(log, (entry, before) => renderEntry(entry, before, sessionId, shown.sought), showUnread);
const shown = new Shown(held, sessionId);
const marks = new Marks(log);
const status = new Status(byId('status'), () => link?.reconnect());
/** @type {import('./share.js').Link | undefined} */
let link;
let unread = 0;
/** Whether the first part of the history has arrived. */
let begun = false;
/** Whether a live stream was interrupted: replayed messages are then news. */
let resumed = false;
/** Entries to announce; only the latest is read out. */
let announced = 0;
/** @type {Entry} */
let latest = {};

const serverReached = runSendPanel(byId('send'), {
  ...{ url, sessionId, command: byId('send-curl'), answer: byId('answer') },
  // The sent message should be in view.
  onSent: () => timeline.toEnd(),
});
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
  if (state.state === 'live') serverReached();
  if (update.type === 'state') return;
  // Not whole: entries since the page was last attached have left the worker's memory.
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
  timeline.append(shown.add(fresh, dropped));
  if (dropped.length > 0 && !shown.isPaused) timeline.drop(new Set(dropped));
  showCount();
  const seen = fresh.filter((entry) => shown.shows(entry));
  const news = begun ? seen.filter(({ message }) => replayIsNews || !message?.replay) : [];
  if (document.hidden || !timeline.pinned || shown.isPaused) unread += messagesOf(news);
  showUnread();
  if (!shown.isPaused) announce(news);
}

function showAll() {
  timeline.replace(shown.entries);
  showCount();
}

function showCount() {
  const { count, total, sought } = shown;
  byId('count').textContent = sought ? `${count.toLocaleString()} of ${countOf(total, 'message')}` : countOf(count, 'message');
  byId('export').disabled = count === 0;
  const [headline, hint] = byId('empty').children;
  byId('empty').hidden = count > 0;
  headline.textContent = sought && total > 0 ? 'No message matches' : 'No messages yet';
  hint.hidden = sought && total > 0;
}

function search(/** @type {string} */ query) {
  const sought = patternOf(query);
  if (sought?.source === shown.sought?.source) return;
  shown.search(sought);
  marks.show(sought);
  showAll();
  showUnread();
  if (sought) byId('news').replaceChildren(el('p', {}, byId('count').textContent));
}

function setPaused(/** @type {boolean} */ isPaused) {
  const { pinned } = timeline;
  if (isPaused) {
    shown.pause();
  } else {
    shown.resume();
    showAll();
  }
  byId('pause').ariaPressed = isPaused;
  // Room for the button below the last message.
  log.classList.toggle('paused', isPaused);
  if (pinned) timeline.toEnd();
  showUnread();
}

/** Shows the unread count in the title while the page is hidden, on the button while scrolled back. */
function showUnread() {
  const { isPaused, waiting } = shown;
  if (!document.hidden && timeline.pinned && !isPaused) unread = 0;
  document.title = unread > 0 ? `(${unread}) hookcast` : 'hookcast';
  byId('jump').hidden = timeline.pinned && !isPaused;
  const jump = unread > 0 ? `${unread} new, jump to latest` : 'Jump to latest';
  const resume = waiting > 0 ? `${waiting.toLocaleString()} new, resume` : 'Resume';
  byId('jump').textContent = isPaused ? resume : jump;
}

/** Announces entries. As a live region, the log itself would repeat entries that scroll back into view. */
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
  // Timers may have been suspended.
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
    if (shown.isPaused) setPaused(false);
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
    shown.filter(target.value === 'mine');
    showAll();
    showUnread();
  };
  const box = byId('search');
  let typing;
  box.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => search(box.value), TYPING_MS);
  };
  box.onkeydown = (event) => {
    if (event.key !== 'Escape' || event.isComposing || box.value === '') return;
    event.preventDefault();
    clearTimeout(typing);
    box.value = '';
    search('');
  };
  byId('pause').onclick = () => setPaused(!shown.isPaused);
  byId('export').onclick = () => download(shown.entries);
  byId('skip').onclick = (event) => {
    event.preventDefault();
    if (byId('open-panel').checkVisibility()) showPanel(true);
    else byId('message').focus();
  };
  byId('open-panel').onclick = () => showPanel(!isPanelOpen());
  document.addEventListener('keydown', ({ key, defaultPrevented }) => {
    if (key === 'Escape' && !defaultPrevented && isPanelOpen()) showPanel(false);
  });
}

function isPanelOpen() {
  return byId('panel').classList.contains('open');
}

/** On a narrow screen the panel opens below the log. */
function showPanel(isOpen) {
  byId('panel').classList.toggle('open', isOpen);
  byId('open-panel').ariaExpanded = isOpen;
  byId('open-panel').textContent = isOpen ? 'Close' : 'Write';
  byId(isOpen ? 'message' : 'open-panel').focus();
}
