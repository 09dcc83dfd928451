/**
 * Sample events of the presets: short, with the members that the default templates read.
 *
 * In names and values `{n}` stands for a number that is new in each request, since a repeated id is a
 * provider's retry. A string that is `{n}` alone becomes that number.
 *
 * @typedef {{ event: string, fields?: Record<string, string>, body: unknown }} Sample
 *   `fields`: the header fields that name the event or the request
 */

/**
 * Samples that name their event in a header field.
 * @returns {Sample[]}
 */
function inField(/** @type {string} */ field, /** @type {Record<string, unknown>} */ events, more = {}) {
  return Object.entries(events).map(([event, body]) => ({ event, fields: { [field]: event, ...more }, body }));
}

/**
 * Samples that name it in the body.
 * @returns {Sample[]}
 */
function inBody(/** @type {Record<string, unknown>} */ events, fields = {}) {
  return Object.entries(events).map(([event, body]) => ({ event, fields, body }));
}

const HOOKS = 'https://git.example/acme/shop';
const repository = { full_name: 'acme/shop', html_url: HOOKS };
const commits = [{ id: 'c0ffee1', message: 'Fix rounding', url: `${HOOKS}/commit/c0ffee1`, author: { name: 'Ana' } }];
const pull_request = { number: 7, title: 'Fix rounding', html_url: `${HOOKS}/pull/7`, merged: false };
const issue = { number: 12, title: 'Totals are off by a cent', html_url: `${HOOKS}/issues/12` };
const push = {
  ...{ ref: 'refs/heads/main', compare: `${HOOKS}/compare/1..2`, deleted: false, repository },
  ...{ pusher: { name: 'ana' }, sender: { login: 'ana' }, commits, head_commit: commits[0] },
};

/** The events of GitHub and of those that send the same. */
const git = {
  push,
  pull_request: { action: 'opened', number: 7, pull_request, repository, sender: { login: 'ana' } },
  issues: { action: 'opened', issue, repository, sender: { login: 'ana' } },
};
const gitea = { ...git, push: { ...push, compare_url: push.compare, pusher: { login: 'ana' } } };

const project = { path_with_namespace: 'acme/shop', web_url: HOOKS };
const gitlab = [
  ...inField('X-Gitlab-Event', {
    'Push Hook': { object_kind: 'push', ref: 'refs/heads/main', user_name: 'Ana', project, total_commits_count: 1, commits },
    'Merge Request Hook': {
      ...{ object_kind: 'merge_request', user: { name: 'Ana' }, project },
      object_attributes: { action: 'open', iid: 7, title: 'Fix rounding', url: `${HOOKS}/-/merge_requests/7` },
    },
    'Pipeline Hook': {
      ...{ object_kind: 'pipeline', user: { name: 'Ana' }, project },
      object_attributes: { id: 31, status: 'success', ref: 'main', duration: 73, url: `${HOOKS}/-/pipelines/31` },
    },
  }, { 'Idempotency-Key': 'sample-{n}' }),
];

const payment = { id: 'pi_{n}', object: 'payment_intent', amount_received: 2000, currency: 'eur', status: 'succeeded' };
const invoice = { id: 'in_{n}', object: 'invoice', amount_due: 4900, currency: 'eur', status: 'open' };
const alert = {
  ...{ status: 'firing', labels: { alertname: 'DiskFull', instance: 'db-3' }, generatorURL: 'https://prometheus.example/graph' },
  annotations: { summary: 'The disk of db-3 is 91 % full' },
};
const alerts = (/** @type {string} */ status) => ({
  ...{ status, receiver: 'hookcast', commonLabels: { alertname: 'DiskFull' }, alerts: [{ ...alert, status }] },
  title: `[${status.toUpperCase()}:1] DiskFull`,
});
const incident = (/** @type {string} */ type) => ({
  event: {
    ...{ id: 'sample-{n}', event_type: type, resource_type: 'incident' },
    data: { id: 'PSAMPLE', type: 'incident', number: 42, title: 'Checkout is slow', html_url: 'https://acme.pagerduty.example/incidents/42' },
  },
});
const order = { id: '{n}', name: '#1001', total_price: '59.90', currency: 'EUR', customer: { first_name: 'Ana' } };

/** @type {Record<string, Sample[]>} */
const SAMPLES = {
  alertmanager: inBody({ firing: alerts('firing'), resolved: alerts('resolved') }),
  bitbucket: inField('X-Event-Key', {
    'repo:push': {
      ...{ actor: { display_name: 'Ana' }, repository: { full_name: 'acme/shop' } },
      push: { changes: [{ new: { type: 'branch', name: 'main' }, commits: [{ hash: 'c0ffee1', message: 'Fix rounding' }] }] },
    },
    'pullrequest:created': {
      ...{ actor: { display_name: 'Ana' }, repository: { full_name: 'acme/shop' } },
      pullrequest: { id: 7, title: 'Fix rounding', links: { html: { href: `${HOOKS}/pull-requests/7` } } },
    },
  }, { 'X-Request-UUID': 'sample-{n}' }),
  cloudevents: inBody({
    'com.example.order.created': {
      ...{ specversion: '1.0', type: 'com.example.order.created', source: '/shop', id: 'sample-{n}' },
      ...{ datacontenttype: 'application/json', data: { order: 'A-1001', total: 59.9 } },
    },
  }, { 'Content-Type': 'application/cloudevents+json' }),
  cloudflare: inBody({
    health_check_status_notification: { name: 'Origin health', text: 'Origin db-3 is unhealthy', alert_type: 'health_check_status_notification' },
  }),
  discord: inBody({
    APPLICATION_AUTHORIZED: {
      ...{ version: 1, application_id: '1', type: 1 },
      event: { type: 'APPLICATION_AUTHORIZED', timestamp: '2026-01-01T12:00:00Z', data: { user: { username: 'ana' }, guild: { name: 'Acme' } } },
    },
    application_command: { id: '1{n}', type: 2, member: { user: { username: 'ana' } }, data: { name: 'deploy', options: [{ name: 'to', value: 'staging' }] } },
  }),
  eventgrid: inField('aeg-event-type', {
    Notification: [
      { id: 'sample-{n}', eventType: 'Shop.OrderCreated', subject: 'orders/1001', eventTime: '2026-01-01T12:00:00Z', data: { total: 59.9 }, dataVersion: '1' },
    ],
  }),
  forgejo: inField('X-Forgejo-Event', gitea, { 'X-Forgejo-Delivery': 'sample-{n}' }),
  gitea: inField('X-Gitea-Event', gitea, { 'X-Gitea-Delivery': 'sample-{n}' }),
  github: inField('X-GitHub-Event', git, { 'X-GitHub-Delivery': 'sample-{n}' }),
  gitlab,
  gogs: inField('X-Gogs-Event', gitea, { 'X-Gogs-Delivery': 'sample-{n}' }),
  grafana: inBody({ firing: alerts('firing'), resolved: alerts('resolved') }),
  linear: inField('Linear-Event', {
    Issue: {
      ...{ type: 'Issue', action: 'create', actor: { name: 'Ana' }, url: 'https://linear.example/acme/issue/SHOP-12' },
      data: { id: 'sample-{n}', identifier: 'SHOP-12', title: 'Totals are off by a cent' },
    },
  }, { 'Linear-Delivery': 'sample-{n}' }),
  pagerduty: inBody({ 'incident.triggered': incident('incident.triggered'), 'incident.resolved': incident('incident.resolved') }, { 'X-Webhook-Id': 'sample-{n}' }),
  sentry: inField('Sentry-Hook-Resource', {
    issue: {
      action: 'created',
      data: { issue: { shortId: 'SHOP-1', title: 'TypeError: x is undefined', level: 'error', web_url: 'https://sentry.example/issues/1' } },
    },
  }, { 'Request-ID': 'sample-{n}' }),
  shopify: inField('X-Shopify-Topic', { 'orders/create': order, 'orders/paid': order }, { 'X-Shopify-Webhook-Id': 'sample-{n}' }),
  slack: inBody({ message: { type: 'event_callback', event_id: 'Ev{n}', event: { type: 'message', user: 'U1', channel: 'C1', text: 'Lunch?' } } }),
  standard: inBody({
    'invoice.paid': { type: 'invoice.paid', timestamp: '2026-01-01T12:00:00Z', data: { id: 'inv_{n}', total: 49 } },
  }, { 'webhook-id': 'msg_{n}' }),
  stripe: inBody({
    'payment_intent.succeeded': { id: 'evt_{n}', object: 'event', type: 'payment_intent.succeeded', livemode: false, data: { object: payment } },
    'invoice.payment_failed': { id: 'evt_{n}', object: 'event', type: 'invoice.payment_failed', livemode: false, data: { object: invoice } },
  }),
  telegram: inBody({ message: { update_id: '{n}', message: { message_id: 1, from: { first_name: 'Ana' }, chat: { id: 1 }, text: 'Is it done?' } } }),
  'uptime-kuma': inBody({ down: { msg: '[shop] [Down] connect ECONNREFUSED', heartbeat: { status: 0 }, monitor: { name: 'shop' } } }),
  zoom: inBody({ 'meeting.started': { event: 'meeting.started', event_ts: '{n}', payload: { object: { id: '1', topic: 'Stand-up' } } } }),
};

/** For presets without samples. */
const ANY = [{ event: 'Any JSON', body: { text: 'Hello from hookcast' } }];

/**
 * @param {string} preset
 * @returns {Sample[]}
 */
export function samplesOf(preset) {
  return Object.hasOwn(SAMPLES, preset) ? SAMPLES[preset] : ANY;
}

/** The body as a provider might send it, with `{n}` replaced by `number`. */
export function bodyOf(/** @type {Sample} */ { body }, /** @type {string} */ number) {
  return filled(JSON.stringify(body, null, 2).replaceAll('"{n}"', number), number);
}

/** @param {string} text */
export function filled(text, /** @type {string} */ number) {
  return text.replaceAll('{n}', number);
}
