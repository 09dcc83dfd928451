/** text.js in Node: how the chat window divides the text of a message. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { charEnd, partsOf, piecesOf } from '../../src/chat/text.js';
import { hostileText, randomFrom, seed } from './support/random.js';

const textOf = (part) => (part === null ? '' : typeof part === 'string' ? part : (part.stack ?? part.address));
const linksOf = (text, goesOn = false) =>
  [...partsOf(text, goesOn)].filter((part) => part?.address).map(({ address, host }) => [address, host]);
const kinds = (text) => [...partsOf(text, false)].map((part) => (part === null ? 'break' : typeof part === 'string' ? 'text' : Object.keys(part)[0]));

describe('a link', () => {
  it('ends with its address', () => {
    const sentence = 'see (https://a.example/b_(c)?q=1&r=%20#x), [http://b.example/], "https://c.example"… http://d.example/;!?*_~';
    assert.deepEqual(linksOf(sentence).map(([address]) => address), [
      ...['https://a.example/b_(c)?q=1&r=%20#x', 'http://b.example/', 'https://c.example', 'http://d.example/'],
    ]);
    assert.deepEqual(linksOf('https://a.example/(((b)))))'), [['https://a.example/(((b)))', '']]);
  });

  it('is plain if its text shows the host exactly', () => {
    for (const address of ['https://a.example', 'http://a-b.c_d.example:8080/\u00fc?x@y#z', 'https://127.0.0.1/', 'https://xn--bcher-kva.example/', 'https://a.example./']) {
      assert.deepEqual(linksOf(address), [[address, '']]);
    }
  });

  it('shows the host if its text may mislead', () => {
    const hosts = {
      'https://b\u00fccher.example/\u00fc': 'xn--bcher-kva.example',
      'https://p\u0430ypal.example/': 'xn--pypal-4ve.example',
      'HTTPS://paypaI.example/': 'paypai.example',
      'https://good.example\u2044x.evil.example/': 'good.xn--examplex-k03d.evil.example',
      'https://good.example\u2215x.evil.example/': 'good.xn--examplex-4f7d.evil.example',
      'https://good.example\u29f8x.evil.example/': 'good.xn--examplex-b91f.evil.example',
      'https://good\uff0eexample/': 'good.example',
      'https://good\u3002example/': 'good.example',
      'https://good\uff61example/': 'good.example',
      'https://go\u00adod\u200b.example/': 'good.example',
      'https://0x7f.1/': '127.0.0.1',
      'https://%65vil.example/': 'evil.example',
      'https:///evil.example/': 'evil.example',
      'https://\\evil.example/': 'evil.example',
      'https://[0:0::1]:80/': '[::1]',
      'https://good.example,x.evil.example/': 'good.example,x.evil.example',
      'https://good.example&x=1.evil.example/': 'good.example&x=1.evil.example',
    };
    for (const [address, host] of Object.entries(hosts)) {
      assert.deepEqual(linksOf(address), [[address, new URL(address).hostname]], address);
      assert.deepEqual(linksOf(address), [[address, host]], address);
    }
  });

  it('is not made of addresses with a user or password, or of other texts', () => {
    const none = [
      ...['https://good.example@evil.example/', 'https://good.example:x@evil.example/', 'https://:good.example@evil.example/'],
      ...['https://@evil.example/', 'https://good.example\u2044@evil.example/', 'https://:@evil.example', 'https://good.example%2f@evil.example'],
      ...['https://good.example\uff0fx.evil.example/', 'http://[bad', 'https://', 'ftp://a.example', 'javascript://a.example/%0aalert(1)', 'data:text/html,x'],
      `https://a.example/e${'\u0301'.repeat(9)}`,
    ];
    for (const text of none) assert.deepEqual(linksOf(text), [], text);
  });

  it('contains no character that changes the direction', () => {
    for (const turn of '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\u0085\u009f\u007f') {
      assert.deepEqual(linksOf(`https://a.example/x${turn}y`), [['https://a.example/x', '']]);
    }
  });

  it('is not made of an address that is cut off', () => {
    const text = 'https://good.example.evil.example/ end';
    assert.deepEqual(linksOf(text.slice(0, 20), true), []);
    assert.deepEqual(linksOf(text.slice(0, 20), false), [['https://good.example', '']]);
    assert.deepEqual(linksOf(text.slice(0, 36), true), [['https://good.example.evil.example/', '']]);
  });
});

const REAL = {
  Thai: '\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48 \u0e1b\u0e39\u0e48 \u0e19\u0e49\u0e33 '.repeat(20),
  Vietnamese: 'Vie\u0323\u0302t Nam Vi\u1ec7t '.repeat(20),
  Hebrew: '\u05d1\u05bc\u05b0\u05e8\u05b5\u05d0\u05e9\u05c1\u05b4\u0596\u05d9\u05ea \u05d1\u05bc\u05b8\u05e8\u05b8\u05a3\u05d0 '.repeat(20),
  Arabic: '\u0628\u0650\u0633\u0652\u0645\u0650 \u0671\u0644\u0644\u0651\u064e\u0647\u0650 \u0671\u0644\u0631\u0651\u064e\u062d\u0652\u0645\u064e\u0670\u0646\u0650 '.repeat(20),
  Devanagari: '\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937\u094d\u0924\u094d\u0930 \u0930\u093e\u0937\u094d\u091f\u094d\u0930\u0940\u092f '.repeat(20),
  Tibetan: '\u0f67\u0f90\u0fb5\u0fa8\u0fb3\u0fba\u0fbc\u0fbb\u0f82 \u0f66\u0f92\u0fb2\u0f74\u0f56\u0f0b ',
  Khmer: '\u1780\u17d2\u179a\u17bb\u1784\u1797\u17d2\u1793\u17c6\u1796\u17c1\u1789 ',
  emoji: '\u{1f469}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466}\u{1f3f3}\ufe0f\u200d\u{1f308}\u2764\ufe0f\u{1f44d}\u{1f3fd}1\ufe0f\u20e3\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}'.repeat(40),
};

describe('a stack of marks', () => {
  it('is nine or more marks on a letter, with invisible characters between them or not', () => {
    assert.deepEqual([...partsOf(`be${'\u0301'.repeat(300)} x`, false)], ['b', { stack: `e${'\u0301'.repeat(300)}` }, ' x']);
    for (const between of ['', '\u200d', '\u2060', '\u034f', '\ufe0f', '\u{e0020}']) {
      assert.ok(kinds(`e${`\u0301${between}`.repeat(9)}`).includes('stack'), JSON.stringify(between));
    }
  });

  it('occurs in no real script', () => {
    for (const [script, text] of Object.entries(REAL)) {
      for (const piece of piecesOf(text)) assert.deepEqual(kinds(piece), ['text'], script);
    }
  });
});

describe('a piece', () => {
  const seam = (text) => piecesOf(text).map((piece) => piece.at(-1));

  it('ends at the end of a line if possible', () => {
    const log = '    at handler (/srv/app/lib/router.js:118:14) \u2014 \u05e9\n'.repeat(500);
    assert.ok(seam(log).every((end) => end === '\n'));
    assert.ok(piecesOf(log).every(({ length }) => length <= 1_024));
  });

  it('does not cut long lines of ASCII, and cuts those of other simple scripts late', () => {
    const json = JSON.stringify({ data: 'x'.repeat(30_000), more: Array(3_000).fill('a b') });
    assert.deepEqual(piecesOf(json), [json]);
    assert.deepEqual(piecesOf(`${json}\nb`), [`${json}\n`, 'b']);
    const prose = 'Привет, мир! 你好。 Việt Nam 👩‍👩‍👧 '.repeat(150);
    assert.deepEqual(piecesOf(prose), [prose]);
  });

  it('ends other lines at spaces, or anywhere outside a surrogate pair', () => {
    assert.ok(seam('שלום עולם '.repeat(1_000)).every((end) => end === ' '));
    assert.ok(piecesOf('\u0c95\u0ccd'.repeat(5_000)).every(({ length }) => length <= 1_024));
    for (const text of [`x${'\u{10400}'.repeat(5_000)}`, `x${'\u{1f600}'.repeat(9_000)}`, `${'a'.repeat(70_000)}\u0301`]) {
      assert.ok(piecesOf(text).every((piece) => piece.isWellFormed()));
      assert.ok(piecesOf(text).slice(1).every((piece) => !/^\p{M}/u.test(piece)));
    }
  });

  it('cuts a long run of a complex script between letters', () => {
    const parts = [...partsOf('\u0c95\u0ccd'.repeat(400), false)];
    assert.ok(parts.every((part) => part === null || part.length <= 128));
    assert.ok(parts.filter((part) => part !== null).every((part) => !/^\p{M}/u.test(part)));
  });

  it('has a bounded number of links', () => {
    assert.equal(linksOf('http://a '.repeat(1_000)).length, 256);
  });
});

it('a cut does not split a surrogate pair', () => {
  assert.deepEqual([charEnd('a😀', 2), charEnd('a😀', 3), charEnd('a😀', 9), charEnd('', 5)], [1, 3, 3, 0]);
});

it('random hostile texts are complete, and their links show the real host', () => {
  const random = randomFrom(seed());
  for (let round = 0; round < 2_000; round += 1) {
    const text = hostileText(random).repeat(random() < 0.2 ? 20 : 1);
    const pieces = piecesOf(text);
    assert.equal(pieces.join(''), text);
    for (const [i, piece] of pieces.entries()) {
      const parts = [...partsOf(piece, i < pieces.length - 1)];
      assert.equal(parts.map(textOf).join(''), piece);
      for (const { address, host } of parts.filter((part) => part?.address)) {
        const { hostname, username, password, protocol } = new URL(address);
        assert.ok(username === '' && password === '' && /^https?:$/.test(protocol), JSON.stringify(address));
        // Either the text shows the target, or the host is shown beside it.
        const plain = address.toLowerCase().startsWith(`${protocol}//${hostname}`) && /^\w+:\/\/[a-z\d._-]*(:\d*)?([/?#]|$)/.test(address);
        assert.equal(host, plain ? '' : hostname, JSON.stringify(address));
        assert.doesNotMatch(address, /[\s\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/);
      }
    }
  }
});

describe('time is linear in the length of the text', () => {
  /** Repeats of one unit, and texts with a mismatch only at the end. */
  const units = {
    ...{ brackets: ')', openers: '(', both: '()', stops: '.,:;', marks: '\u0301', nine: `e${'\u0301'.repeat(9)}`, eight: `e${'\u0301'.repeat(8)}` },
    ...{ markJoiner: '\u0301\u200d', joiners: '\u200d', kannada: '\u0c95\u0ccd', ninety: `${'\u0c95\u0ccd'.repeat(47)}a`, arabic: '\u0628' },
    ...{ schemes: 'http', colons: 'https:', addresses: 'https://', hosts: 'http://a ', at: 'http://a@', open: 'http://[ ', idn: 'http://ü ' },
    ...{ spaces: ' ', lines: '\n', words: 'word ', cjk: '漢', pairs: '😀', surrogates: '\ud83d', square: '[', keys: '{"a":', overrides: '\u202e' },
  };
  const LENGTH = 128 * 1024;

  /** The shortest of three runs, in milliseconds. */
  function cost(texts) {
    let best = Infinity;
    for (let i = 0; i < 3; i += 1) {
      const start = performance.now();
      for (const text of texts) {
        for (const piece of piecesOf(text)) for (const part of partsOf(piece, false)) void part;
        for (const part of partsOf(text, false)) void part;
      }
      best = Math.min(best, performance.now() - start);
    }
    return best;
  }

  for (const [name, unit] of Object.entries(units)) {
    for (const lead of ['', 'https://a']) {
      it(`${lead}${name}`, () => {
        const text = (length) => lead + unit.repeat(Math.ceil(length / unit.length));
        const [whole, parts] = [[text(LENGTH)], Array(16).fill(text(LENGTH / 16))];
        const [long, short] = [cost(whole), cost(parts)];
        // The one text is as long as the sixteen together: quadratic time takes sixteen times as long.
        assert.ok(long < 6 * short + 20, `${long.toFixed(1)} ms in one, ${short.toFixed(1)} ms in sixteen`);
      });
    }
  }
});
