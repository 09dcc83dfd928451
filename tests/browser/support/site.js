/** An HTTP server of the tests, on a free port. */

import http from 'node:http';
import { once } from 'node:events';

/** Answers each request by `answer(request, response)`, until it is closed. */
export async function serve(answer) {
  const server = http.createServer(answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
