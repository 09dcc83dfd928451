/** Reads the pixels of a screenshot: 8 bits a channel, no interlace (PNG specification, third edition). */

import { inflateSync } from 'node:zlib';

/** @returns {{ width: number, height: number, at: (x: number, y: number) => number }} `at`: a pixel's RGB */
export function readPng(bytes) {
  const data = [];
  let width, height, channels;
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const type = bytes.toString('latin1', at + 4, at + 8);
    const chunk = bytes.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') {
      [width, height] = [chunk.readUInt32BE(0), chunk.readUInt32BE(4)];
      channels = { 2: 3, 6: 4 }[chunk[9]];
      if (chunk[8] !== 8 || !channels || chunk[12] !== 0) throw new Error('an unsupported kind of PNG');
    }
    if (type === 'IDAT') data.push(chunk);
    at += length + 12;
  }
  const pixels = unfilter(inflateSync(Buffer.concat(data)), width * channels, height, channels);
  const at = (x, y) => pixels.readUIntBE((y * width + x) * channels, 3);
  return { width, height, at };
}

function unfilter(raw, stride, height, channels) {
  const out = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x += 1) {
      const to = y * stride + x;
      const left = x < channels ? 0 : out[to - channels];
      const up = y === 0 ? 0 : out[to - stride];
      const corner = x < channels || y === 0 ? 0 : out[to - stride - channels];
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      out[to] = raw[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return out;
}

function paeth(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
