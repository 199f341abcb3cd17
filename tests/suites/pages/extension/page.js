// What a page of an extension can read from the gateway, according to the browser; reported to a server of the suites.
const asked = new URLSearchParams(location.search);
const gateway = asked.get("gateway");

async function read(path, options) {
  try {
    const answer = await fetch(gateway + path, options);
    await answer.text();
    return answer.status;
  } catch {
    return "blocked";
  }
}

function dial() {
  return new Promise((resolve) => {
    const socket = new WebSocket(gateway.replace("https:", "wss:") + "/ws");
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("blocked");
  });
}

window.addEventListener("load", async () => {
  const seen = {
    "simple": await read("/shared/a"),
    "with a key": await read("/shared/a", { headers: { "X-API-Key": asked.get("key") } }),
    "preflighted": await read("/shared/a", { method: "PUT", body: "x", headers: { "Content-Type": "application/json" } }),
    "no such route": await read("/nowhere"),
    "an ambiguous path": await read("/shared/a%252e"),
    "a route without CORS": await read("/open/a"),
    "a WebSocket": await dial(),
  };
  await fetch(asked.get("report"), { method: "POST", mode: "no-cors", body: JSON.stringify(seen) });
});
