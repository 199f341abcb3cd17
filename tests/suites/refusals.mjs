// Node, refused while it sends. Usage: refusals.mjs VERSION CA TIMES REQUESTS, where REQUESTS is JSON: [{"url", "bytes", "streamed"}, …]

import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import { Readable } from "node:stream";

const PIECE = 16 << 10;
const [version, authority, times, words] = process.argv.slice(2);
const ca = readFileSync(authority);
const agent = new https.Agent({ ca, keepAlive: true, maxSockets: 1 });

function* pieces(bytes) {
  for (let sent = 0; sent < bytes; sent += PIECE) yield Buffer.alloc(Math.min(PIECE, bytes - sent), "x");
}

// Sends the whole body with its length, or a stream without one.
function send(request, { bytes, streamed }) {
  if (streamed) Readable.from(pieces(bytes)).pipe(request);
  else request.end(Buffer.alloc(bytes, "x"));
}

function lengths({ bytes, streamed }) {
  return streamed ? {} : { "content-length": bytes };
}

function overHttp1(asked) {
  return new Promise((resolve, reject) => {
    const request = https.request(asked.url, { method: "POST", agent, headers: lengths(asked) }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (data) => (text += data));
      answer.on("end", () => resolve({ status: answer.statusCode, text })).on("error", reject);
    });
    request.on("error", reject).setTimeout(20_000, () => request.destroy(new Error("timeout")));
    send(request, asked);
  });
}

let session;
function overHttp2(asked) {
  if (!session || session.closed || session.destroyed) {
    session = http2.connect(new URL(asked.url).origin, { ca });
    session.on("error", () => {});
  }
  return new Promise((resolve, reject) => {
    const request = session.request({ ":method": "POST", ":path": new URL(asked.url).pathname, ...lengths(asked) });
    let status, text = "";
    request.on("response", (head) => (status = head[":status"]));
    request.setEncoding("utf8").on("data", (data) => (text += data));
    request.on("close", () => resolve({ status, text })).on("error", reject);
    request.setTimeout(20_000, () => reject(new Error("timeout")));
    send(request, asked);
  });
}

for (const [number, asked] of JSON.parse(words).entries()) {
  for (let n = 0; n < Number(times); n++) {
    const answer = version === "1" ? overHttp1(asked) : overHttp2(asked);
    const seen = await answer.catch((error) => ({ status: 0, text: "", error: String(error) }));
    console.log(JSON.stringify({ number, ...seen }));
  }
}
session?.close();
agent.destroy();
