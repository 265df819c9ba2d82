// The SMART JavaScript client (fhirclient) as an app in a real browser: a page of its own origin launches it, the browser goes to the
// page where the patient answers (which the test plays), comes back with a code, and the app reads as the patient's: its discovery,
// its token and its reads cross origins. In: a line of {fhir, client, scope, browser (a program)} as JSON, then the address to go back
// to; out: the address of the page, then how many observations the app found.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => (await lines.next()).value;
const given = JSON.parse(await next());

const script = createRequire(import.meta.url).resolve("fhirclient/build/fhir-client.pure.min.js");
const page = (work) => `<!doctype html><title>Diary</title><script src="/fhir-client.js"></script><script>${work}</script>`;
const launch = (origin) => {
  const asked = { clientId: given.client, scope: given.scope, redirectUri: `${origin}/back`, iss: given.fhir };
  return page(`FHIR.oauth2.authorize(${JSON.stringify(asked)}).catch((error) => { document.title = String(error); });`);
};
const back = page(`
  FHIR.oauth2.ready().then(async (client) => {
    const patient = await client.patient.read();
    if (client.user.fhirUser !== "Patient/" + client.patient.id) throw new Error("fhirUser is " + client.user.fhirUser);
    await client.refresh();
    const found = await client.request("Observation");
    const refused = await client.request("Practitioner/none").then(() => "", (error) => String(error.statusCode ?? error.status));
    return { kind: patient.resourceType, found: found.entry.filter((one) => one.search.mode === "match").length, refused };
  }).then((result) => { window.result = result; }, (error) => { window.result = { error: String(error) }; });
`);
const server = createServer((request, answer) => {
  const origin = `http://${request.headers.host}`;
  const bodies = { "/fhir-client.js": () => readFileSync(script), "/launch": () => launch(origin), "/back": () => back };
  const body = bodies[new URL(request.url, origin).pathname];
  answer.writeHead(body ? 200 : 404, { "content-type": request.url === "/fhir-client.js" ? "text/javascript" : "text/html" });
  answer.end(body?.());
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
const args = `${flags} --disable-component-update --disable-sync`.split(" ");
const browser = await chromium.launch({ executablePath: given.browser, args });
try {
  const tab = await browser.newPage();
  await tab.route(/\/oauth\/authorize\?/, async (route) => {
    console.log(route.request().url());
    const answer = JSON.stringify(await next());
    await route.fulfill({ contentType: "text/html", body: `<script>location.replace(${answer})</script>` });
  });
  await tab.goto(`http://127.0.0.1:${server.address().port}/launch`);
  await tab.waitForFunction("window.result", undefined, { timeout: 60_000 });
  const result = await tab.evaluate("window.result");
  if (result.error || result.kind !== "Patient") throw new Error(JSON.stringify(result));
  console.log(result.found);
} finally {
  await browser.close();
  server.close();
}
process.exit(0);
