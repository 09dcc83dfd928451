// Starts the KV for the tests and prints its URL; ends at the end of its standard input.
//
//   node server.js '{"persist": "<directory>", "key": "<PEM file>", "cert": "<PEM file>", "worlds": {}}'

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Miniflare } from "miniflare";

const options = JSON.parse(process.argv[2] ?? "{}");
const script = (name) => fileURLToPath(new URL(name, import.meta.url));
const worker = (name, settings) => ({
  name,
  modules: true,
  scriptPath: script(`${name}.js`),
  compatibilityDate: "2026-03-01",
  ...settings,
});
const tls = options.key && {
  https: true,
  httpsKey: readFileSync(options.key, "utf8"),
  httpsCert: readFileSync(options.cert, "utf8"),
};

const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: 0,
  kvPersist: options.persist ?? false,
  ...tls,
  workers: [
    worker("rest", {
      kvNamespaces: { KV: "general", WEBHOOK_KV: "pages" },
      serviceBindings: { PAGES: "pages" },
      // Namespaces that exist from the start, and their behaviour.
      bindings: { WORLDS: options.worlds ?? {} },
    }),
    worker("pages", { kvNamespaces: { WEBHOOK_KV: "pages" } }),
  ],
});

console.log(String(await miniflare.ready));
process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
