/** The JSON structure that the page derives, in Node. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { JSON_CHARS_MAX, childrenOf, isJson, rootOf } from '../../src/chat/json.js';
import { randomFrom, seed } from './support/random.js';

/** The value of the nodes, with the order and the spelling of everything in it. */
function spelled(text, node = rootOf(text)) {
  const isContainer = node.kind === 'object' || node.kind === 'array';
  if (!isContainer) return text.slice(node.start, node.end);
  const children = [...childrenOf(text, node)];
  assert.equal(children.length, node.count);
  assert.deepEqual(children.map(({ last }) => last), children.map((_, i) => i === children.length - 1));
  return children.map((child) => (node.kind === 'object' ? [child.key, spelled(text, child)] : spelled(text, child)));
}

/** A random value as JSON with random spaces, and its `spelled` form. */
function randomJson(random, depth) {
  const pick = (list) => list[Math.floor(random() * list.length)];
  const gap = () => pick(['', '', ' ', '\n\t', '\r\n  ']);
  const strings = ['"a"', '""', '"\\""', '"\\\\"', '"\\\\\\""', '"[{,:}]"', '"\\u202e\u05d0"', '"😀\\ud83d"', '"\\\\\\\\"'];
  const scalars = [...strings, '0', '-1.50e+10', '12345678901234567890', 'true', 'false', 'null'];
  const kind = depth > 0 ? pick(['scalar', 'array', 'object']) : depth < 0 ? pick(['array', 'object']) : 'scalar';
  if (kind === 'scalar') {
    const scalar = pick(scalars);
    return { text: scalar, value: scalar };
  }
  const items = Array.from({ length: Math.floor(random() * 5) }, () => randomJson(random, Math.abs(depth) - 1));
  if (kind === 'array') {
    return { text: `[${gap()}${items.map(({ text }) => text + gap()).join(`,${gap()}`)}]`, value: items.map(({ value }) => value) };
  }
  const keys = items.map(() => pick(strings));
  const pairs = items.map(({ text }, i) => `${keys[i]}${gap()}:${gap()}${text}${gap()}`);
  return { text: `{${gap()}${pairs.join(`,${gap()}`)}}`, value: items.map(({ value }, i) => [keys[i], value]) };
}

describe('the structure of JSON', () => {
  it('keeps numbers, repeated keys and their order as they were sent', () => {
    const text = ' {"b":12345678901234567890, "a":1.50,"b" : [ ] ,"10":{"x":"\\u0041"},"2":[1,[2,{}],"]"]}\n';
    assert.deepEqual(spelled(text), [
      ...[['"b"', '12345678901234567890'], ['"a"', '1.50'], ['"b"', []], ['"10"', [['"x"', '"\\u0041"']]]],
      ['"2"', ['1', ['2', []], '"]"']],
    ]);
  });

  it('is right for random values', () => {
    const random = randomFrom(seed());
    for (let round = 0; round < 500; round += 1) {
      const { text, value } = randomJson(random, -4);
      assert.ok(isJson(text), text);
      assert.deepEqual(spelled(text), value, text);
    }
  });

  it('is derived only for objects and arrays of moderate size', () => {
    for (const yes of ['{}', '[]', ' \r\n\t[1]', '{"a":1}\n', `["${'x'.repeat(JSON_CHARS_MAX - 4)}"]`]) assert.ok(isJson(yes), yes.slice(0, 20));
    for (const no of [
      ...['', '1', '"x"', 'null', '[INFO] started', '{a:1}', '[1,]', '[1] and more', '{"a":1', "{'a':1}", '\u00a0[]', '\ufeff[]', 'x[]'],
      `["${'x'.repeat(JSON_CHARS_MAX)}"]`,
    ]) {
      assert.ok(!isJson(no), no.slice(0, 20));
    }
  });

  it('is derived without recursion, in linear time', () => {
    const texts = (n) => [
      '['.repeat(n) + ']'.repeat(n),
      `[${'1,'.repeat(n)}1]`,
      `{${'"\\\\\\"":{},'.repeat(n)}"":0}`,
      `["${'\\\\'.repeat(n)}"]`,
      `["${'\\"'.repeat(n)}"]`,
      `[${' '.repeat(n)}[${' '.repeat(n)}]]`,
      `[${'[ ],'.repeat(n)}[]]`,
    ];
    const time = (text, times) => {
      const start = performance.now();
      for (let i = 0; i < times; i += 1) {
        assert.ok(isJson(text));
        for (const child of childrenOf(text, rootOf(text))) assert.ok(child.end > child.start);
      }
      return performance.now() - start;
    };
    const [short, long] = [texts(2_000), texts(40_000)];
    for (const [i, text] of long.entries()) {
      // The minimum of several rounds, because the machine is shared. Quadratic time takes twenty times as
      // long.
      const best = (...of) => Math.min(...Array.from({ length: 6 }, () => time(...of)));
      const few = best(short[i], 20);
      const one = best(text, 1);
      assert.ok(one < 5 * few + 20, `text ${i}: ${one} ms in one, ${few} ms in twenty`);
    }
  });
});
