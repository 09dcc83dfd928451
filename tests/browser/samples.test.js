/** The sample events of the send panel, in Node. */

import assert from 'node:assert/strict';
import { it } from 'node:test';

import { bodyOf, filled, samplesOf } from '../../src/chat/samples.js';

const PRESETS = [
  ...['alertmanager', 'bitbucket', 'cloudevents', 'cloudflare', 'discord', 'eventgrid', 'forgejo', 'gitea', 'github', 'gitlab', 'gogs'],
  ...['grafana', 'linear', 'pagerduty', 'sentry', 'shopify', 'slack', 'standard', 'stripe', 'telegram', 'uptime-kuma', 'zoom'],
];

it('every preset has samples that are short JSON, with header fields that can be sent', () => {
  for (const preset of [...PRESETS, 'token', 'hmac', 'constructor']) {
    const samples = samplesOf(preset);
    assert.ok(samples.length > 0, preset);
    assert.equal(new Set(samples.map(({ event }) => event)).size, samples.length, preset);
    for (const sample of samples) {
      const body = bodyOf(sample, '123456789');
      assert.ok(body.length < 2_000, `${preset} ${sample.event}: ${body.length} characters`);
      assert.ok(JSON.parse(body) instanceof Object);
      assert.doesNotMatch(body, /\{n\}/);
      const fields = Object.entries(sample.fields ?? {}).map(([name, value]) => [name, filled(value, '123456789')]);
      assert.doesNotThrow(() => new Headers(fields), preset);
      for (const [, value] of fields) assert.doesNotMatch(value, /[{}]/);
    }
  }
  assert.equal(samplesOf('token'), samplesOf('anything'));
});

it('an id that is a number stays one', () => {
  assert.equal(JSON.parse(bodyOf(samplesOf('telegram')[0], '123456789')).update_id, 123456789);
});
