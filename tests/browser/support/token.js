/** Tokens (RFC 7519) signed with HS256. */

import { createHmac } from 'node:crypto';

/** The secret of the tests' tokens: the content of a `--token-key` file. */
export const KEY = 'a key of the tests with more than 32 bytes';

/** A token with these claims in `hookcast`, which ends in `lifeMs`. */
export function tokenOf(hookcast, lifeMs = 3_600_000, more = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ exp: (Date.now() + lifeMs) / 1_000, hookcast, ...more })}`;
  return `${body}.${createHmac('sha256', KEY).update(body).digest('base64url')}`;
}

/** The events that announce the end of a token, and the answer to one that has ended. */
export const expiring = (expiresAt) => `data: {"type":"token_expiring","expiresAt":${expiresAt}}\n\n`;
export const EXPIRED = 'data: {"type":"token_expired"}\n\n';
