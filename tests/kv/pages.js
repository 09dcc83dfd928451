// What the Pages app does with its binding: POST appends a message to the list under one key and
// cuts it to a hundred; GET shows the list. Read, append, cut, write, and no thought of others.

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
