/**
 * The sources of messages: those that the server lists and those seen in messages, with their titles.
 *
 * @typedef {{ name: string, preset: string, title: string, open: boolean }} Source
 *   `open`: no secret is set, so anyone may post to it
 */

import { charEnd } from './text.js';

/** Sources listed, and characters of their names. Another writer of a shared history may use any name. */
const SOURCES_MAX = 256;
const NAME_CHARS = 64;
/** The longest wait for the server's list. */
const ANSWER_MS_MAX = 15_000;

/** The titles of sources that are named like their preset, for servers that list none. */
const TITLES = new Map(Object.entries({
  ...{ alertmanager: 'Alertmanager', bitbucket: 'Bitbucket', cloudevents: 'CloudEvents', cloudflare: 'Cloudflare' },
  ...{ discord: 'Discord', eventgrid: 'Azure Event Grid', forgejo: 'Forgejo', gitea: 'Gitea', github: 'GitHub' },
  ...{ gitlab: 'GitLab', gogs: 'Gogs', grafana: 'Grafana', linear: 'Linear', pagerduty: 'PagerDuty' },
  ...{ sentry: 'Sentry', shopify: 'Shopify', slack: 'Slack', standard: 'Standard Webhooks', stripe: 'Stripe' },
  ...{ telegram: 'Telegram', 'uptime-kuma': 'Uptime Kuma', zoom: 'Zoom' },
}));

/** Presets of no provider. */
const GENERIC = ['hmac', 'token'];

export class Sources {
  #onChange;
  /** @type {Map<string, Source>} */ #listed = new Map();
  /** @type {Set<string>} */ #seen = new Set();

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** The names of all sources, in the order of their titles. */
  get names() {
    const names = [...new Set([...this.#listed.keys(), ...this.#seen])].slice(0, SOURCES_MAX);
    return names.sort((a, b) => this.titleOf(a).localeCompare(this.titleOf(b)));
  }

  /** The sources without a secret. */
  get open() {
    return [...this.#listed.values()].filter(({ open }) => open);
  }

  /**
   * The provider's title. A source that is not named like its provider shows its own name, too.
   * @param {string} name
   */
  titleOf(name) {
    const shown = name.slice(0, charEnd(name, NAME_CHARS));
    const { preset, title } = this.#listed.get(name) ?? { preset: name, title: TITLES.get(name) };
    if (!title || GENERIC.includes(preset)) return shown;
    return preset === name ? title : `${title} (${shown})`;
  }

  /**
   * Records the sources of new messages.
   * @param {import('./feed.js').Entry[]} entries
   */
  see(entries) {
    const known = this.#seen.size;
    for (const { message } of entries) {
      if (message?.source && this.#seen.size < SOURCES_MAX) this.#seen.add(message.source);
    }
    if (this.#seen.size > known) this.#onChange();
  }

  /**
   * Asks the server for its list, which is empty if it lists none to this page.
   * @param {string} url
   */
  async load(url) {
    try {
      const response = await fetch(url, { cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(ANSWER_MS_MAX) });
      const { sources } = response.ok ? await response.json() : { sources: [] };
      const listed = sources.filter(isSource).slice(0, SOURCES_MAX).map((source) => [source.name, source]);
      if (JSON.stringify(listed) === JSON.stringify([...this.#listed])) return;
      this.#listed = new Map(listed);
      this.#onChange();
    } catch {
      // Unreachable, or another server: the list stays as it is.
    }
  }
}

function isSource(source) {
  const { name, preset, title, open } = source ?? {};
  return [name, preset, title].every((text) => typeof text === 'string') && typeof open === 'boolean';
}
