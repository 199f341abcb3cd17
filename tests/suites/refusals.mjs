// node, refused while it sends: refusals.mjs VERSION CA URL BYTES TIMES

import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";

const [version, authority, url, bytes, times] = process.argv.slice(2);
const ca = readFileSync(authority);
const body = Buffer.alloc(Number(bytes), "x");
const agent = new https.Agent({ ca, keepAlive: true, maxSockets: 1 });

function overHttp1() {
  return new Promise((resolve, reject) => {
    const request = https.request(url, { method: "POST", agent, headers: { "content-length": body.length } }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (data) => (text += data));
      answer.on("end", () => resolve({ status: answer.statusCode, text })).on("error", reject);
    });
    request.on("error", reject).setTimeout(20_000, () => request.destroy(new Error("timeout")));
    request.end(body);
  });
}

let session;
function overHttp2() {
  if (!session || session.closed || session.destroyed) {
    session = http2.connect(new URL(url).origin, { ca });
    session.on("error", () => {});
  }
  return new Promise((resolve, reject) => {
    const request = session.request({ ":method": "POST", ":path": new URL(url).pathname });
    let status, text = "";
    request.on("response", (head) => (status = head[":status"]));
    request.setEncoding("utf8").on("data", (data) => (text += data));
    request.on("close", () => resolve({ status, text })).on("error", reject);
    request.setTimeout(20_000, () => reject(new Error("timeout")));
    request.end(body);
  });
}

for (let n = 0; n < Number(times); n++) {
  const seen = await (version === "1" ? overHttp1() : overHttp2()).catch((error) => ({ status: 0, text: "", error: String(error) }));
  console.log(JSON.stringify(seen));
}
session?.close();
agent.destroy();
