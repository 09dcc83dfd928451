/**
 * Proxies with a known fault, and what `hookcast doctor` reports for each. README.md shows this table,
 * `doctor.test.js` tests it.
 *
 * `change` breaks the recommended configuration. `upstream` is a target of the proxy other than hookcast.
 * `failed` and `noted` are the checks that must have these verdicts. `atFault`, `seen` and `remedy` belong to
 * the first of them: the party, and parts of the printed text.
 */

const apache = (directives) => (config) => config.replace('# here', directives);
const DEFLATE = '<Location />\nSetOutputFilter DEFLATE\n</Location>';

const UNREACHABLE = { failed: ['address'], atFault: 'proxy', seen: 'The proxy could not reach hookcast' };

export const BROKEN = [
  {
    what: 'nginx: `proxy_set_header Host ""`',
    proxy: 'nginx',
    change: (config) => config.replace('Host $host', 'Host ""'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'answered 400 by hookcast itself: "Missing Host"',
    remedy: 'nginx: proxy_set_header Host $host',
  },
  {
    what: 'nginx: `proxy_set_header Host http://$host`',
    proxy: 'nginx',
    change: (config) => config.replace('Host $host', 'Host http://$host'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'answered 400 by hookcast itself: "Malformed Host"',
    remedy: 'nginx: proxy_set_header Host $host',
  },
  {
    what: 'nginx: no location for `/api/webhook`',
    proxy: 'nginx',
    change: (config) => config.replace('location / {', 'location /app/ {'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'answered 404, not by hookcast (server: nginx/',
    remedy: 'nginx: a location / or /api/webhook',
  },
  {
    what: 'nginx: a path behind the port in `proxy_pass`',
    proxy: 'nginx',
    change: (config) => config.replace('http://hookcast;', 'http://hookcast/app/;'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'answered 404 by hookcast itself: "Not found"',
    remedy: 'proxy_pass without a path behind the port',
  },
  {
    what: 'nginx: `proxy_pass` to a port without a listener',
    proxy: 'nginx',
    upstream: 'closed',
    ...UNREACHABLE,
    remedy: 'nginx: the address in proxy_pass or upstream',
  },
  {
    what: 'Apache: `ProxyPass` to a port without a listener',
    proxy: 'apache',
    upstream: 'closed',
    ...UNREACHABLE,
    remedy: 'Apache: the address in ProxyPass',
  },
  {
    what: 'HAProxy: `server` with a port without a listener',
    proxy: 'haproxy',
    upstream: 'closed',
    ...UNREACHABLE,
    remedy: 'HAProxy: the address in the server line',
  },
  {
    what: 'Varnish: `.port` without a listener',
    proxy: 'varnish',
    upstream: 'closed',
    ...UNREACHABLE,
    remedy: "Varnish: the backend's .host and .port",
  },
  {
    what: 'Caddy: `reverse_proxy` to a port without a listener',
    proxy: 'caddy',
    upstream: 'closed',
    ...UNREACHABLE,
    remedy: 'Caddy: the address behind reverse_proxy',
  },
  {
    what: 'nginx: an upstream that accepts and never answers',
    proxy: 'nginx',
    upstream: 'silent',
    change: (config) => config.replace('proxy_read_timeout 60s', 'proxy_read_timeout 1s'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'The proxy could not reach hookcast in time',
    remedy: 'no firewall drops what the proxy sends',
  },
  {
    what: 'nginx: `proxy_pass` to another application',
    proxy: 'nginx',
    upstream: 'other',
    failed: ['address'],
    atFault: 'proxy',
    seen: 'not by hookcast (server: nginx/',
    remedy: 'nginx: a location / or /api/webhook',
  },
  {
    what: 'Caddy: a site block of another host name',
    proxy: 'caddy',
    change: (config) => config.replace(':8080', 'http://hooks.example:8080'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'answered 200, not by hookcast (server: Caddy): an empty body',
    remedy: 'Caddy: a site block of this host name',
  },
  {
    what: 'nginx: `auth_basic` in front',
    proxy: 'nginx',
    change: (config) => config.replace('gzip off;', 'gzip off; auth_basic "x"; auth_basic_user_file /dev/null;'),
    failed: ['address'],
    atFault: 'proxy',
    seen: 'A log-in, a challenge, a filter or a rate limit stands in front',
    remedy: 'nginx: auth_basic off',
  },
  {
    what: 'nginx: every request redirected to https, and `http://` examined',
    proxy: 'nginx',
    change: (config) => config.replace('location / {', 'location / { return 301 https://$host$request_uri;'),
    failed: ['address'],
    atFault: 'command',
    seen: 'It points to https://127.0.0.1/api/webhook',
    remedy: 'give the address with https://',
  },
  {
    what: 'nginx: `http://` to the port that has TLS',
    proxy: 'nginx',
    tls: true,
    failed: ['address'],
    atFault: 'command',
    seen: 'The plain HTTP request was sent to HTTPS port',
    remedy: 'give the address with https://',
  },
  {
    what: 'nginx: `limit_except GET { deny all; }`',
    proxy: 'nginx',
    change: (config) => config.replace('gzip off;', 'gzip off; limit_except GET { deny all; }'),
    failed: ['post'],
    atFault: 'proxy',
    seen: 'POST /api/webhook is answered 403, not by hookcast (server: nginx/',
    remedy: 'allow all for /api/webhook',
  },
  {
    what: 'nginx: `proxy_set_header X-Webhook-Secret ""`',
    proxy: 'nginx',
    change: (config) => config.replace('gzip off;', 'gzip off; proxy_set_header X-Webhook-Secret "";'),
    failed: ['post'],
    atFault: 'proxy',
    seen: 'X-Webhook-Secret does not arrive',
    remedy: 'no empty proxy_set_header for it',
  },
  {
    what: 'nginx: HTTP/1.0 upstream, and `proxy_ignore_headers X-Accel-Buffering`',
    proxy: 'nginx',
    // Observed: if the origin sends chunks, nginx forwards each of them even so.
    change: (config) =>
      config
        .replace('proxy_http_version 1.1;', '')
        .replace('proxy_buffering off;', 'proxy_ignore_headers X-Accel-Buffering;'),
    failed: ['stream', 'buffering'],
    atFault: 'proxy',
    seen: 'a hop holds the answer back',
    remedy: 'proxy_buffering off',
  },
  {
    what: 'nginx: HTTP/1.0 upstream and buffering, as nginx has them by default',
    proxy: 'nginx',
    change: (config) => config.replace('proxy_http_version 1.1;', '').replace('proxy_buffering off;', ''),
    failed: [],
    why: 'X-Accel-Buffering: no keeps streams moving; the upstream version cannot be seen from outside',
  },
  {
    what: 'nginx: `gzip on` for `text/event-stream`',
    proxy: 'nginx',
    change: (config) =>
      config.replace('gzip off;', 'gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;'),
    failed: [],
    why: 'each event is compressed by itself, and comes at once',
  },
  {
    what: 'nginx: `proxy_cache` that ignores Cache-Control',
    proxy: 'nginx',
    change: (config) =>
      `proxy_cache_path CACHE keys_zone=c:1m;\n${config.replace(
        'proxy_buffering off;',
        'proxy_cache c; proxy_cache_valid any 1m; proxy_ignore_headers Cache-Control X-Accel-Buffering;',
      )}`,
    failed: ['history'],
    atFault: 'proxy',
    seen: 'the same as before they were posted: a cache answers',
    remedy: 'no proxy_cache for /api/webhook',
  },
  {
    what: 'nginx: `proxy_read_timeout` below the heartbeat',
    proxy: 'nginx',
    change: (config) => config.replace('proxy_read_timeout 60s', 'proxy_read_timeout 1s'),
    failed: ['cut'],
    atFault: 'proxy',
    seen: 'hookcast says before when to come back, and did not',
    remedy: 'nginx: proxy_read_timeout',
  },
  {
    what: 'nginx: Last-Event-ID and Cache-Control stripped',
    proxy: 'nginx',
    change: (config) =>
      config.replace('gzip off;', 'gzip off; proxy_set_header Last-Event-ID ""; proxy_hide_header Cache-Control;'),
    failed: ['headers', 'resume', 'history'],
    atFault: 'proxy',
    seen: 'lacks no-store and no-transform',
    remedy: 'nginx: no proxy_hide_header',
  },
  {
    what: 'Apache: `ProxyPass` alone',
    proxy: 'apache',
    failed: [],
    why: 'mod_proxy passes each piece on',
  },
  {
    what: 'Apache: `SetOutputFilter DEFLATE`',
    proxy: 'apache',
    // Observed: mod_deflate ignores no-transform, as nginx does.
    change: apache(DEFLATE),
    failed: [],
    why: 'each event is compressed by itself, and comes at once',
  },
  {
    what: 'Apache: the same with that remedy',
    proxy: 'apache',
    change: apache(`${DEFLATE}\nSetEnvIf Request_URI "^/api/webhook" no-gzip`),
    failed: [],
    why: 'the remedy works',
  },
  {
    what: 'Apache: `SetOutputFilter BUFFER`',
    proxy: 'apache',
    change: apache('LoadModule buffer_module /usr/lib/apache2/modules/mod_buffer.so\nSetOutputFilter BUFFER'),
    failed: [],
    why: 'mod_buffer passes on what mod_proxy flushes',
  },
  {
    what: 'Apache: `ProxyTimeout 1`',
    proxy: 'apache',
    change: apache('ProxyTimeout 1'),
    failed: ['cut'],
    atFault: 'proxy',
    seen: 'hookcast says before when to come back, and did not',
    remedy: 'Apache: ProxyTimeout',
  },
  {
    what: 'Apache: answers in HTTP/1.0 (`force-response-1.0`)',
    proxy: 'apache',
    change: apache('SetEnvIf Request_URI "." downgrade-1.0 force-response-1.0'),
    failed: [],
    noted: ['http'],
    atFault: 'proxy',
    seen: 'HTTP/1.0; server: Apache/',
    remedy: 'let the proxy answer in HTTP/1.1',
  },
  {
    what: 'HAProxy: no `option http-no-delay`',
    proxy: 'haproxy',
    change: (config) => config.replace('option http-no-delay', '#'),
    failed: [],
    noted: ['delay'],
    atFault: 'proxy',
    seen: 'a hop waits for more to send',
    remedy: 'HAProxy: option http-no-delay',
  },
  {
    what: 'HAProxy: `timeout server` below the heartbeat',
    proxy: 'haproxy',
    change: (config) => config.replace('timeout server 60s', 'timeout server 1s'),
    failed: ['cut'],
    atFault: 'proxy',
    seen: 'hookcast says before when to come back, and did not',
    remedy: 'timeout client and timeout server',
  },
  {
    what: 'Varnish: `set beresp.do_stream = false`',
    proxy: 'varnish',
    change: (config) => config.replace('do_stream = true', 'do_stream = false'),
    failed: ['stream', 'buffering'],
    atFault: 'proxy',
    seen: 'a hop holds the answer back',
    remedy: 'Varnish: set beresp.do_stream = true',
  },
  {
    what: 'A tunnel that holds answers to GET back until they end',
    proxy: 'holding',
    failed: ['stream', 'buffering'],
    atFault: 'proxy',
    seen: 'a hop holds the answer back',
    remedy: 'use a named tunnel',
  },
  {
    what: 'A proxy that holds answers to GET back until 64 KiB have come',
    proxy: 'holding',
    untilBytes: 64 * 1024,
    failed: ['stream', 'buffering'],
    atFault: 'proxy',
    seen: 'a hop holds the answer back',
    remedy: 'use a named tunnel',
  },
];

/** The table of README.md. */
export function table() {
  const code = (text) => `\`${text}\``;
  const quote = (text) => (text ? `… ${text}${text.endsWith('/') ? (text.includes('(') ? '…)' : '…') : ''} …` : '');
  const rows = BROKEN.map(({ what, failed, noted = [], atFault = '', seen, remedy = '', why }) => {
    const checks = [...failed.map(code), ...noted.map((check) => `${code(check)} (note)`)].join(', ') || 'none';
    return `| ${what} | ${checks} | ${atFault} | ${quote(seen) || `all is well: ${why}`} | ${remedy} |`;
  });
  return ['| what is broken | checks that fail | at fault | evidence | to change |', '|---|---|---|---|---|', ...rows].join('\n');
}
