/** A scripted server, for behaviour that the real one shows rarely or never. */

import { serve } from './site.js';

/**
 * Answers the n-th stream request with the n-th of `answers`, and further ones with the last. An answer is a
 * function of request and response.
 */
export async function scripted(...answers) {
  const requests = [];
  let next;
  const { url, close } = await serve((request, response) => {
    requests.push({ url: request.url, headers: request.headers, at: performance.now() });
    const answer = next ?? answers[Math.min(requests.length, answers.length) - 1];
    answer(request, response);
  });
  /** Answers all further requests so. */
  const setAnswer = (answer) => (next = answer);
  return { url: `${url}api/webhook/stream`, requests, close, answer: setAnswer };
}

/** Headers and text of a stream that stays open. */
export function streaming(...pieces) {
  return (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
    for (const piece of pieces) response.write(piece);
  };
}

/** A stream that ends in good order. */
export function ending(...pieces) {
  return (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
    response.end(pieces.join(''));
  };
}

/** An answer that is not a stream. */
export function failing(status, headers = {}, body = '') {
  return (request, response) => response.writeHead(status, headers).end(body);
}

export const connected = (replay = 0, retryMs = 10, eventId = '', timestamp = Date.now()) =>
  `retry: ${retryMs}\ndata: {"type":"connected","timestamp":${timestamp},"replay":${replay}}\n${eventId && `id: ${eventId}\n`}\n`;

/** The frame of a message whose content is its id. */
export const frame = (eventId, content, more = {}) =>
  `id: ${eventId}\ndata: ${JSON.stringify({ type: 'webhook_message', id: content, content, timestamp: 1, ...more })}\n\n`;

export const gapFrame = (missed) => `data: ${JSON.stringify({ type: 'gap', missed })}\n\n`;

export const HEARTBEAT = ': heartbeat\n';
