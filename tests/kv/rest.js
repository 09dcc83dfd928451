// A Worker that serves the part of Cloudflare's KV REST API that hookcast uses, on a real KV binding, with the
// API's envelope, codes and limits. It fails on request.
//
//   GET, PUT, DELETE /accounts/{account}/storage/kv/namespaces/{namespace}/values/{key}
//   GET, PUT         /control/{namespace}   its behaviour, as JSON: see `fresh`
//   GET              /control/{namespace}/calls
//   any              /pages/...             goes to the Pages app's Worker
//
// Every namespace is a world of its own, so that tests are independent. A namespace exists once its behaviour
// was set. One of them is the namespace of the Pages app.
//
//   GET /user/tokens/verify, /accounts/{account}/tokens/verify   whether any namespace knows the token

const ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353";
const PAGES = "70616765730000000000000000000000";

/** The default behaviour of a namespace. */
const fresh = () => ({
  // Tokens and their rights. `stale_ms`: reads show the value of that long ago. `unlimited`: calls do not
  // count. `status`: the result of the token's verification, active by default. `is_account_owned`: the token
  // belongs to no user.
  tokens: {},
  // Faults: { status, code, html, text, retry_after, hang_ms, times, only: "read" | "write" }.
  fault: null,
  // Writes left today; null: no limit.
  daily_writes: null,
  write_gap_ms: 1000,
  calls_max: 1200,
  calls_window_ms: 300_000,
  // Added to the Date of answers.
  clock_ahead_ms: 0,
});

const worlds = new Map();
const world = (settings) => ({ ...fresh(), ...settings, calls: [], versions: [], blocked_until: 0, hanging: 0 });

export default {
  async fetch(request, env) {
    for (const [namespace, settings] of Object.entries(env.WORLDS)) {
      if (!worlds.has(namespace)) worlds.set(namespace, world(settings));
    }
    const path = new URL(request.url).pathname.split("/").map(decodeURIComponent).slice(1);
    if (path[0] === "pages") return env.PAGES.fetch(request);
    if (path[0] === "control") return control(request, path[1], path[2]);
    if (path.at(-1) === "verify") return verify(request, path);
    return values(request, env, path);
  },
};

async function control(request, namespace, what) {
  const known = worlds.get(namespace);
  if (request.method === "PUT") {
    const settings = await request.json();
    if (known) Object.assign(known, settings);
    else worlds.set(namespace, world(settings));
    return Response.json({});
  }
  if (!known) return Response.json({ error: "no such namespace" }, { status: 404 });
  if (what === "calls") return Response.json(known.calls);
  return Response.json({ ...known, calls: known.calls.length, versions: known.versions.length });
}

function tokenOf(request) {
  return (request.headers.get("authorization") ?? "").replace(/^Bearer /, "");
}

function verify(request, path) {
  const isUsers = path.join("/") === "user/tokens/verify";
  if (!isUsers && path.join("/") !== `accounts/${ACCOUNT}/tokens/verify`) {
    return refuse(404, 7003, "Could not route, perhaps your object identifier is invalid?");
  }
  const rights = [...worlds.values()].map((world) => world.tokens[tokenOf(request)]).find(Boolean);
  if (!rights || isUsers === Boolean(rights.is_account_owned)) return refuse(401, 1000, "Invalid API Token");
  const result = { id: "f267e341f3dd4697bd3b9f71dd96247f", status: rights.status ?? "active" };
  return Response.json({ success: true, errors: [], messages: [], result });
}

async function values(request, env, path) {
  const [accounts, account, storage, kv, namespaces, namespace, kind, key] = path;
  const route = [accounts, storage, kv, namespaces, kind].join("/");
  if (route !== "accounts/storage/kv/namespaces/values" || key === undefined) {
    return refuse(404, 7000, "No route for that URI");
  }
  if (account !== ACCOUNT) return refuse(404, 7003, "Could not route, perhaps your object identifier is invalid?");
  const world = worlds.get(namespace);
  if (!/^[0-9a-f]{32}$/i.test(namespace)) return refuse(400, 10011, "could not parse UUID from request's namespace_id");
  if (!world) return refuse(404, 10013, "namespace not found");

  const body = await request.arrayBuffer();
  const token = tokenOf(request);
  const call = { at: Date.now(), token, method: request.method, key, bytes: body.byteLength, status: null };
  world.calls.push(call);
  const answer = await serve(world, call, body, env, namespace);
  call.status = answer.status;
  answer.headers.set("Date", new Date(Date.now() + world.clock_ahead_ms).toUTCString());
  return answer;
}

async function serve(world, call, body, env, namespace) {
  const isRead = call.method === "GET";
  const rights = world.tokens[call.token];
  if (!rights) return refuse(401, 10000, "Authentication error");
  if (!(isRead ? rights.read : rights.write)) return refuse(403, 10000, "Authentication error");

  const limited = rights.unlimited ? null : limit(world, call);
  if (limited) return limited;
  const fault = takeFault(world, isRead);
  if (fault) {
    if (fault.hang_ms) {
      world.hanging++;
      await scheduler.wait(fault.hang_ms);
      world.hanging--;
    }
    if (fault.status) return faulty(fault);
  }

  const store = namespace === PAGES ? env.WEBHOOK_KV : env.KV;
  const name = namespace === PAGES ? call.key : `${namespace}/${call.key}`;
  switch (call.method) {
    case "GET":
      return read(world, call.key, rights, store, name);
    case "PUT":
      return write(world, call.key, body, store, name);
    case "DELETE":
      await store.delete(name);
      world.versions.push({ at: Date.now(), key: call.key, value: null });
      return Response.json({ success: true, errors: [], messages: [], result: null });
    default:
      return refuse(405, 10405, "Method not allowed");
  }
}

/** 1,200 calls for each user in five minutes, and then none for five minutes. */
function limit(world, call) {
  if (call.at < world.blocked_until) {
    return refuse(429, 971, "Please wait and consider throttling your request speed", {
      "Retry-After": String(Math.ceil((world.blocked_until - call.at) / 1000)),
    });
  }
  const since = call.at - world.calls_window_ms;
  const counts = (other) => other.at > since && !world.tokens[other.token]?.unlimited;
  if (world.calls.filter(counts).length > world.calls_max) {
    world.blocked_until = call.at + world.calls_window_ms;
    return limit(world, call);
  }
}

function takeFault(world, isRead) {
  const fault = world.fault;
  if (!fault || (fault.only && fault.only !== (isRead ? "read" : "write"))) return null;
  if (fault.times !== undefined && --fault.times <= 0) world.fault = null;
  return fault;
}

function faulty(fault) {
  const headers = fault.retry_after === undefined ? {} : { "Retry-After": String(fault.retry_after) };
  if (fault.code) return refuse(fault.status, fault.code, "injected", headers);
  const text = fault.text ?? `<!DOCTYPE html><html><h1>Error ${fault.status}</h1></html>`;
  return new Response(text, { status: fault.status, headers: { "Content-Type": "text/html", ...headers } });
}

async function read(world, key, rights, store, name) {
  if (rights.stale_ms) {
    const seen = world.versions.filter((v) => v.key === key && v.at <= Date.now() - rights.stale_ms).at(-1);
    const value = seen?.value ?? null;
    return value === null ? refuse(404, 10009, "get: 'key not found'") : new Response(value);
  }
  const value = await store.get(name, "arrayBuffer");
  return value === null ? refuse(404, 10009, "get: 'key not found'") : new Response(value);
}

async function write(world, key, body, store, name) {
  if (world.daily_writes === 0) return refuse(429, 10048, "KV put() limit exceeded for the day");
  const last = world.versions.filter((version) => version.key === key).at(-1);
  if (last && Date.now() - last.at < world.write_gap_ms) return refuse(429, 10000, "KV PUT failed: 429 Too Many Requests");
  if (world.daily_writes !== null) world.daily_writes--;
  world.versions.push({ at: Date.now(), key, value: body });
  await store.put(name, body);
  return Response.json({ success: true, errors: [], messages: [], result: null });
}

function refuse(status, code, message, headers = {}) {
  const body = { success: false, errors: [{ code, message }], messages: [], result: null };
  return Response.json(body, { status, headers });
}
