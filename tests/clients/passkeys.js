// A real browser with a virtual authenticator: it makes a passkey for somebody who is logged in, signs in with it, and derives a
// secret (PRF). In: {auth, token, password, browser (a program), page, other (a page of an origin that auth does not know)} as
// JSON; out: the session's tokens as JSON.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const given = JSON.parse(readFileSync(0, "utf8"));

async function ask(method, path, token, body) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`${given.auth}${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

async function expect(status, ...asked) {
  const answer = await ask(...asked);
  if (answer.status !== status) throw new Error(`${asked[1]}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

// The two run in the page: what they are given and what they give is JSON.
async function make(options) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  return (await navigator.credentials.create({ publicKey })).toJSON();
}

async function use({ options, salt }) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  if (salt) publicKey.extensions = { prf: { eval: { first: new TextEncoder().encode(salt) } } };
  const got = await navigator.credentials.get({ publicKey });
  const first = got.getClientExtensionResults().prf?.results?.first;
  const hex = first && [...new Uint8Array(first)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const credential = got.toJSON();
  const told = structuredClone(credential);
  // What the authenticator derived stays here.
  delete credential.clientExtensionResults.prf?.results;
  return { credential, told, secret: hex };
}

const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
const args = `${flags} --disable-component-update --disable-sync`.split(" ");
const browser = await chromium.launch({ executablePath: given.browser, args });
try {
  const page = await browser.newPage();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      ctap2Version: "ctap2_1",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      hasPrf: true,
    },
  });
  await page.goto(given.page);
  const proof = { password: given.password };
  const creation = await expect(201, "POST", "/v1/me/passkey-challenges", given.token, proof);
  const credential = await page.evaluate(make, creation);
  const made = await expect(201, "POST", "/v1/me/passkeys", given.token, { name: "Virtual", credential });
  if (!made.prf) throw new Error("the authenticator derives secrets, and auth does not say so");
  // An authenticator that has a passkey of the account makes no second.
  const again = await expect(201, "POST", "/v1/me/passkey-challenges", given.token, proof);
  const refused = await page.evaluate(make, again).catch((error) => error);
  if (!/InvalidStateError/.test(String(refused))) throw new Error(`a second passkey: ${refused}`);

  const request = () => expect(201, "POST", "/v1/passkey-challenges");
  const first = await page.evaluate(use, { options: await request(), salt: "one" });
  const second = await page.evaluate(use, { options: await request(), salt: "one" });
  const other = await page.evaluate(use, { options: await request(), salt: "two" });
  if (!/^[0-9a-f]{64}$/.test(first.secret)) throw new Error(`no secret: ${first.secret}`);
  if (first.secret !== second.secret || first.secret === other.secret) throw new Error("not the salt's secret");
  // It is nobody else's, not even auth's.
  await expect(422, "POST", "/v1/sessions/passkey", undefined, { credential: first.told });
  const tokens = await expect(201, "POST", "/v1/sessions/passkey", undefined, { credential: first.credential });
  await expect(409, "POST", "/v1/sessions/passkey", undefined, { credential: first.credential });
  // A browser has one use for all pages of localhost; auth has not.
  await page.goto(given.other);
  const elsewhere = await page.evaluate(use, { options: await request() });
  await expect(401, "POST", "/v1/sessions/passkey", undefined, { credential: elsewhere.credential });
  console.log(JSON.stringify(tokens));
} finally {
  await browser.close();
}
