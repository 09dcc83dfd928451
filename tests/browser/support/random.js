/** Seeded randomness, and texts that try to harm a page. */

/** The seed of this run, from SEED if it is set; printed, so that a failure can be repeated. */
export function seed() {
  const value = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  console.log(`SEED=${value}`);
  return value;
}

/** Numbers from 0 to 1 from a seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const between = (random, least, most) => least + Math.floor(random() * (most - least + 1));
const one = (random, list) => list[between(random, 0, list.length - 1)];
const many = (random, count, make) => Array.from({ length: count }, () => make(random)).join('');
const inRange = (first, last) => (random) => String.fromCodePoint(between(random, first, last));

/** Characters that look like a slash, a dot, a colon or nothing. */
export const CONFUSABLE = [...'\u2044\u2215\u29f8\uff0f\u2571\u3033\u0338', ...'\uff0e\u3002\uff61\u2024\u00b7\u0701', ...'\uff1a\u2236\ua789', ...'\u00ad\u200b\u200c\u200d\u2060\u115f\u3164\u2800', ...'\\@:;,!$&=()_|%[]'];
const TURNING = [...'\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c'];
const HOSTS = ['good.example', 'evil.example', 'GOOD.example', 'b\u00fccher.example', 'p\u0430ypal.example', '\u05d0\u05d1.example', '127.1', '[::1]', 'xn--bcher-kva.example', '1.2.3.4'];

const MARK_RANGES = [inRange(0x300, 0x36f), inRange(0x483, 0x489), inRange(0x591, 0x5bd), inRange(0x1ab0, 0x1abe), inRange(0x20d0, 0x20f0), inRange(0xfe20, 0xfe2f), inRange(0xf71, 0xf7e), inRange(0x1dc0, 0x1dff)];

export function address(random) {
  const user = random() < 0.25 ? `${one(random, ['', one(random, HOSTS)])}:${one(random, HOSTS)}@` : '';
  const host = one(random, HOSTS) + (random() < 0.5 ? one(random, CONFUSABLE) + one(random, HOSTS) : '');
  const port = random() < 0.2 ? ':8080' : '';
  const path = random() < 0.7 ? `/${many(random, between(random, 0, 12), (r) => one(r, [...'ab/?#&=().', '\u05d0', 'e\u0301', ...CONFUSABLE]))}` : '';
  return `${one(random, ['http', 'https', 'HTTPS'])}://${user}${host}${port}${path}`;
}

/** Pieces of hostile texts, by their attack. */
const ATOMS = [
  (r) => many(r, between(r, 1, 30), (q) => one(q, TURNING)),
  (r) => one(r, ['\u202e', '\u202d', '\u2067']).repeat(between(r, 1, 140)),
  (r) => `e${many(r, between(r, 1, 300), one(r, MARK_RANGES))}`,
  (r) => one(r, ['\u0489', '\u20dd', '\u0338', '\u0e49', '\u0f90', '\u1cd0', '\u064b']).repeat(between(r, 1, 200)),
  (r) => one(r, ['W', '\u0628', '\u6f22', '\u0e01', '\u0c95\u0ccd', '\u1f600', '\u{1f469}\u200d', '\ufdfd', '\u{1242b}', '\u{12219}']).repeat(between(r, 1, 120)),
  (r) => many(r, between(r, 1, 40), inRange(0xe0020, 0xe007f)),
  (r) => many(r, between(r, 1, 20), (q) => one(q, [...'\u200b\u200c\u200d\u2060\ufeff\u034f\ufe0f\u115f\u3164'])),
  (r) => many(r, between(r, 1, 20), (q) => one(q, ['\u{1f469}', '\u200d', '\u{1f3fd}', '\ufe0f', '\u{1f1e9}', '\u20e3', '\u2764'])),
  (r) => one(r, ['\n', '\r', '\t', '\u2028', '\u2029', '\u0085', '\u000b', ' ', '\u00a0', '\u3000']).repeat(between(r, 1, 4)),
  (r) => many(r, between(r, 1, 20), (q) => String.fromCodePoint(between(q, 0xa0, 0xd7ff))),
  (r) => many(r, between(r, 1, 10), (q) => String.fromCodePoint(between(q, 0x10000, 0x1fbff))),
  (r) => ` ${one(r, TURNING)}${address(r)}${one(r, ['', ' ', ')', '.', one(r, TURNING), '\u0301'])}`,
  address,
  () => 'an honest word ',
];

/** A hostile text of a few hundred characters, well-formed and not blank. */
export function hostileText(random) {
  return `x${many(random, between(random, 2, 8), (r) => one(r, ATOMS)(r))}`.toWellFormed();
}
