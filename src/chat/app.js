/**
 * The main module of the page: connects its parts.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

import * as access from './access.js';
import './copy.js';
import { countOf, el } from './elements.js';
import { Expiry } from './expiry.js';
import { download } from './export.js';
import { History } from './history.js';
import { gapText, renderEntry, showTitle } from './render.js';
import { Marks, patternOf } from './search.js';
import { curl, runSendPanel, webhook } from './send.js';
import * as sessions from './session.js';
import { follow } from './share.js';
import { Shown, messagesOf } from './shown.js';
import { Sources } from './sources.js';
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

// First of all: the token leaves the address.
const givenToken = access.takeFromAddress();
if (givenToken) access.keepToken(givenToken);

const url = new URL('api/webhook', document.baseURI).href;
const given = sessions.givenSession();
const granted = grantOf(access.currentToken());
const sessionId = given || granted?.sessions[0] || sessions.ownSession();
/** The session that the stream is asked for; '': what the server shows without one. */
let asked = granted ? '' : sessionId;
const held = new History(viewOf(granted));
const log = byId('log');
/** @type {Timeline<Entry>} */
const timeline = new Timeline(log, (entry, before) => renderEntry(entry, before, page, shown.sought), showUnread);
const sources = new Sources(showSources);
const page = { sessionId, titleOf: (/** @type {string} */ name) => sources.titleOf(name) };
const shown = new Shown(held, sessionId);
const marks = new Marks(log);
const status = new Status(byId('status'), reconnect, () => access.claimsOf(access.currentToken()).expiresAt);
const expiry = new Expiry(byId('access'), useToken);
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

/** @type {ReturnType<typeof import('./simulate.js').runSimulator> | undefined} */
let simulator;

const panel = runSendPanel(byId('send'), {
  ...{ url, sessionId, command: byId('send-curl'), answer: byId('answer'), token: access.currentToken },
  // The sent message should be in view.
  onSent: () => timeline.toEnd(),
});
if (!granted) sessions.rememberSession(sessionId);
if (givenToken === '') expiry.refuse();
offerSessions();
showSession();
sources.see(held.entries);
showAll();
listen();
open();

/**
 * What the page shows if the address names no session: all that the token opens. `undefined`: one session.
 * @param {string | undefined} token
 */
function grantOf(token) {
  return given || !token ? undefined : access.claimsOf(token);
}

/** A token may open more sessions than a stream shows: one is chosen, and then named in the address. */
function offerSessions() {
  const names = access.sessionsToChoose(granted);
  const choice = byId('choice');
  choice.hidden = names.length === 0;
  choice.elements.sessionId.append(...names.map((name) => el('option', { value: name }, name)));
  choice.onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    location.search = `${new URLSearchParams({ sessionId: choice.elements.sessionId.value })}`;
  };
}

/** The name of what the page shows. */
function viewOf(/** @type {access.Claims | undefined} */ grant) {
  return grant ? JSON.stringify([...grant.sessions, grant.everything]) : sessionId;
}

function open() {
  const source = { url: `${url}/stream`, sessionId: asked, token: access.currentToken(), saved: () => held.newest() };
  follow(source, onUpdate, (opened) => (link = opened));
}

function reconnect() {
  if (status.state.state === 'refused') reopen();
  else link?.reconnect();
}

function reopen() {
  link?.close();
  open();
}

/** Continues with another token, at the same place if it shows the same. */
function useToken(/** @type {string} */ token) {
  const isStored = access.keepToken(token);
  expiry.accept();
  const next = grantOf(token);
  if (isStored && viewOf(next) !== viewOf(granted)) return location.reload();
  if (next) asked = '';
  reopen();
  showSession();
  panel.showCommand();
  log.focus({ preventScroll: true });
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
  if (state.status === 401 && state.state === 'refused' && asked && !given && !access.currentToken()) {
    // A server with keys opens no session without a token, but shows what is for everyone.
    asked = '';
    return reopen();
  }
  const wasLive = status.state.state === 'live';
  resumed ||= wasLive && state.state !== 'live';
  status.show(state);
  expiry.show(state);
  if (state.state === 'live') panel.reached();
  // Another start of the server may have other sources.
  if (state.state === 'live' && !wasLive) sources.load(`${url}/sources`);
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
  sources.see(fresh);
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

/** Shows the sources known now: in the choice, on the badges, and in the panel. */
function showSources() {
  const select = byId('source-filter');
  const { value } = select;
  const { names, open } = sources;
  // The chosen one stays, even if the server no longer lists it.
  if (value && !names.includes(value)) names.push(value);
  const options = names.map((name) => el('option', { value: name }, sources.titleOf(name)));
  select.replaceChildren(select.options[0], ...options);
  select.value = value;
  select.hidden = options.length === 0;
  for (const badge of log.querySelectorAll('.source')) showTitle(badge, sources.titleOf(badge.dataset.source));
  if (simulator || open.length > 0) showSimulator(open);
}

async function showSimulator(open) {
  const { runSimulator } = await import('./simulate.js');
  simulator ??= runSimulator(byId('send'), url, panel.simulate);
  simulator(open, page.titleOf);
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
  const from = message?.source ? `${[sources.titleOf(message.source), message.event].filter(Boolean).join(' ')}: ` : '';
  const lead = announced > 1 ? `${announced} new messages, the latest: ` : '';
  byId('news').replaceChildren(el('p', {}, lead + from + text));
  announced = 0;
}

function showSession() {
  byId('session').textContent = sessionId;
  const proof = access.currentToken() ? 'token' : false;
  byId('session-curl').textContent = curl(webhook(url, { message: 'Only for you', sessionId }), proof);
  byId('session-link').href = sessions.addressOf(sessionId);
  const others = sessions.recentSessions().filter((id) => id !== sessionId);
  const items = others.map((id) => el('li', {}, el('a', { href: sessions.addressOf(id) }, id)));
  byId('recent').querySelector('ul').replaceChildren(...items);
  byId('recent').hidden = others.length === 0;
}

function listen() {
  addEventListener('hashchange', () => {
    const token = access.takeFromAddress();
    if (token) useToken(token);
    else if (token === '') expiry.refuse();
  });
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
  byId('source-filter').onchange = ({ target }) => {
    shown.filterSource(target.value);
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
