/**
 * The proxies with the configurations that README.md recommends: the file in the parent directory, word for word
 * except for its two ports.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { freePort, Process } from './process.js';

/** The recommended configuration of a proxy. */
export function recommended(file) {
  return readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
}

const nginxMain = (directory) => `
daemon off; user root; worker_processes 1; pid ${directory}/nginx.pid; error_log stderr warn;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
    fastcgi_temp_path ${directory}/fastcgi; uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
    include ${directory}/hookcast.conf;
}`;

const APACHE = `
ServerRoot DIRECTORY
PidFile DIRECTORY/pid
ErrorLog DIRECTORY/error.log
ServerName localhost
Listen 127.0.0.1:8080
${['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'filter', 'deflate', 'setenvif']
  .map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`)
  .join('\n')}
ProxyPass / http://127.0.0.1:3000/
# here
`;

/** By name: the configuration or its file, and the command of the program. */
const KINDS = {
  nginx: {
    file: 'nginx.conf',
    start(proxy, config) {
      proxy.write('hookcast.conf', config);
      proxy.process.start('nginx', ['-c', proxy.write('nginx.conf', nginxMain(proxy.directory)), '-e', 'stderr']);
    },
  },
  varnish: {
    file: 'varnish.vcl',
    start(proxy, config) {
      const vcl = proxy.write('hookcast.vcl', config);
      const instance = join(proxy.directory, 'instance');
      proxy.process.start('varnishd', ['-F', '-n', instance, '-a', `:${proxy.port}`, '-f', vcl, '-s', 'malloc,64m']);
    },
  },
  haproxy: {
    file: 'haproxy.cfg',
    start(proxy, config) {
      proxy.process.start('haproxy', ['-db', '-f', proxy.write('haproxy.cfg', config)]);
    },
  },
  caddy: {
    file: 'Caddyfile',
    start(proxy, config) {
      const file = proxy.write('Caddyfile', `{\n\tadmin off\n}\n${config}`);
      proxy.process.start('caddy', ['run', '--adapter', 'caddyfile', '--config', file]);
    },
  },
  // Not recommended, but in use on many servers.
  apache: {
    config: APACHE,
    start(proxy, config) {
      const text = config.replaceAll('DIRECTORY', proxy.directory);
      proxy.process.start('apache2', ['-D', 'FOREGROUND', '-f', proxy.write('apache.conf', text)]);
    },
  },
};

/** The proxies with a recommended configuration. */
export const PROXIES = Object.keys(KINDS).filter((name) => KINDS[name].file);

/** The configuration file of a proxy. */
export const fileOf = (name) => KINDS[name].file;

/** The files for two nodes behind one address, which src/bus/README.md recommends. */
export const BALANCERS = { nginx: 'nginx-nodes.conf', haproxy: 'haproxy-nodes.cfg' };

export class Proxy {
  process = new Process();

  /** Starts a proxy in front of `originPort`. `change` may break its configuration. */
  static async start(name, originPort, change = (config) => config) {
    const proxy = new Proxy();
    proxy.name = name;
    proxy.port = await freePort();
    const { file, config: text = recommended(file) } = KINDS[name];
    const config = change(text)
      .replaceAll('8080', proxy.port)
      .replaceAll('3000', originPort);
    KINDS[name].start(proxy, config);
    await proxy.process.listens(proxy.port);
    return proxy;
  }

  /** Starts a proxy in front of two nodes at 127.0.0.1 and 127.0.0.2 with these ports. */
  static async beforeNodes(name, ports) {
    const proxy = new Proxy();
    proxy.name = name;
    proxy.port = await freePort();
    const config = recommended(BALANCERS[name])
      .replaceAll('10.0.0.', '127.0.0.')
      .replaceAll('8080', proxy.port)
      .replaceAll('3000', ports.listen)
      .replaceAll('9000', ports.admin);
    KINDS[name].start(proxy, config);
    await proxy.process.listens(proxy.port);
    return proxy;
  }

  get directory() {
    return this.process.directory;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  write(name, text) {
    const path = join(this.directory, name);
    writeFileSync(path, text);
    return path;
  }

  async close() {
    await this.process.close();
  }
}
