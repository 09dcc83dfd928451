// What the Pages app does with its binding: a POST appends a message to the list under one key and cuts the
// list to a hundred; a GET returns the list. It reads, appends, cuts and writes, without regard to other
// writers.

const KEY = "webhook:messages";

export default {
  async fetch(request, env) {
    const list = (await env.WEBHOOK_KV.get(KEY, "json")) ?? [];
    if (request.method !== "POST") return Response.json(list);
    const { message, sessionId } = await request.json();
    const entry = { id: crypto.randomUUID(), content: message, timestamp: Date.now(), sessionId };
    list.push(entry);
    await env.WEBHOOK_KV.put(KEY, JSON.stringify(list.slice(-100)));
    return Response.json({ success: true, messageId: entry.id, timestamp: entry.timestamp });
  },
};
