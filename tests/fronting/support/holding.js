/**
 * A proxy that holds the bodies of answers to GET back until they end, as Cloudflare's quick tunnels do
 * (github.com/cloudflare/cloudflared/issues/1449), or until this many bytes have arrived. Answers to other
 * methods pass at once. Its `Server` is Cloudflare's.
 */

import { once } from 'node:events';
import { createServer, request } from 'node:http';

export class HoldingProxy {
  #server;

  static async start(originPort, untilBytes = Infinity) {
    const proxy = new HoldingProxy();
    proxy.#server = createServer((incoming, outgoing) => {
      const { method, url: path, headers } = incoming;
      const upstream = request({ port: originPort, host: '127.0.0.1', method, path, headers }, (answer) => {
        const named = { ...answer.headers, server: 'cloudflare', 'cf-ray': '8f0c0ffee0-FRA' };
        const held = [];
        let bytes = 0;
        const release = () => {
          if (!outgoing.headersSent) outgoing.writeHead(answer.statusCode, named);
          for (const data of held.splice(0)) outgoing.write(data);
          bytes = 0;
        };
        answer.on('data', (data) => {
          held.push(data);
          bytes += data.length;
          if (method !== 'GET' || bytes >= untilBytes) release();
        });
        answer.on('end', () => {
          release();
          outgoing.end();
        });
        answer.on('error', () => outgoing.destroy());
      });
      upstream.on('error', () => outgoing.destroy());
      outgoing.on('close', () => upstream.destroy());
      incoming.pipe(upstream);
    });
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.port = proxy.#server.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  async close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
