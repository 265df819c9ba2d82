// A real browser with a virtual authenticator: it makes a passkey for somebody who is logged in, signs in with it, derives a secret
// (PRF), and takes the root key home: from then on that secret alone opens it, or a printed code. In: {auth, token, password,
// username, patient, chain, browser (a program), page, other (a page of an origin that auth does not know)} as JSON; out: the
// session's tokens, and the root seed as the next session opened it, as JSON.

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

// In the page: a root key and a recovery key, and the root seed wrapped under what the passkey derives and under the printed code.
// CLIENTS.md says how.
async function takeHome({ options, passkey, chain, username, patient }) {
  const utf8 = (text) => new TextEncoder().encode(text);
  const base64 = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/[+]/g, "-").replace(/[/]/g, "_").replace(/=/g, "");
  const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const random = (length) => crypto.getRandomValues(new Uint8Array(length));
  const derive = async (secret, salt, info) => {
    const key = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
    return new Uint8Array(await crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt, info: utf8(info) }, key, 256));
  };
  const signer = async (seed) => {
    const header = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    const pkcs8 = new Uint8Array([...header, ...seed]);
    const open = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
    const { x } = await crypto.subtle.exportKey("jwk", open);
    const key = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
    const raw = Uint8Array.from(atob(x.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
    const kid = new Uint8Array(await crypto.subtle.digest("SHA-256", raw));
    return { kid, public: x, sign: async (text) => base64(new Uint8Array(await crypto.subtle.sign("Ed25519", key, utf8(text)))) };
  };
  const wrap = async (secret, salt, seed, kid) => {
    const raw = await derive(secret, salt, "hbc/root-wrap/v1");
    const key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt"]);
    const iv = random(12);
    const additionalData = new Uint8Array([...utf8(patient), 0, ...kid]);
    const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, seed));
    return base64(new Uint8Array([...iv, ...sealed]));
  };

  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const [salt, codeSalt, code, seed] = [random(32), random(32), random(16), random(32)];
  publicKey.extensions = { prf: { eval: { first: salt } } };
  const got = await navigator.credentials.get({ publicKey });
  const secret = new Uint8Array(got.getClientExtensionResults().prf.results.first);
  const root = await signer(seed);
  const recovery = await signer(await derive(code, codeSalt, "hbc/recovery-key/v1"));
  const text = `hbc/root-pop/v1\n${chain}\n${hex(root.kid)}\n${hex(recovery.kid)}\n${username}\n`;
  return {
    root: hex(root.kid),
    change: {
      custody: "passkey",
      root_public_key: root.public,
      root_pop: await root.sign(text),
      recovery_public_key: recovery.public,
      recovery_pop: await recovery.sign(text),
      wraps: [
        { passkey, salt: base64(salt), wrapped: await wrap(secret, salt, seed, root.kid) },
        { salt: base64(codeSalt), wrapped: await wrap(code, codeSalt, seed, root.kid) },
      ],
    },
  };
}

// In the page of the next session: the root seed again. A page would import it non-extractable and forget it.
async function openRoot({ options, wrap, root, patient }) {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const utf8 = (text) => new TextEncoder().encode(text);
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const [salt, wrapped] = [bytes(wrap.salt), bytes(wrap.wrapped)];
  publicKey.allowCredentials = [{ type: "public-key", id: bytes(wrap.credential) }];
  publicKey.extensions = { prf: { eval: { first: salt } } };
  const got = await navigator.credentials.get({ publicKey });
  const secret = await crypto.subtle.importKey("raw", got.getClientExtensionResults().prf.results.first, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt, info: utf8("hbc/root-wrap/v1") };
  const key = await crypto.subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, ["decrypt"]);
  const kid = root.match(/../g).map((pair) => parseInt(pair, 16));
  const additionalData = new Uint8Array([...utf8(patient), 0, ...kid]);
  const opening = { name: "AES-GCM", iv: wrapped.slice(0, 12), additionalData };
  const seed = new Uint8Array(await crypto.subtle.decrypt(opening, key, wrapped.slice(12)));
  return [...seed].map((byte) => byte.toString(16).padStart(2, "0")).join("");
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
  const { chain, username, patient } = given;
  const home = await page.evaluate(takeHome, { options: await request(), passkey: made.id, chain, username, patient });
  const changed = await expect(200, "PUT", "/v1/me/custody", tokens.access_token, { ...home.change, ...proof });
  if (changed.root_fingerprint !== home.root) throw new Error("another root key counts");
  const wraps = await expect(200, "GET", "/v1/me/root-wraps", tokens.access_token);
  const wrap = wraps.items.find((one) => one.passkey === made.id);
  const seed = await page.evaluate(openRoot, { options: await request(), wrap, root: wraps.root_fingerprint, patient });
  // It shows again who somebody is.
  const shown = await expect(201, "POST", "/v1/sessions/current/passkey-challenges", tokens.access_token);
  const visible = await page.evaluate(use, { options: shown });
  const stepped = { credential: visible.credential };
  await expect(200, "POST", "/v1/sessions/current/step-up/passkey", tokens.access_token, stepped);
  // A browser has one use for all pages of localhost; auth has not.
  await page.goto(given.other);
  const elsewhere = await page.evaluate(use, { options: await request() });
  await expect(401, "POST", "/v1/sessions/passkey", undefined, { credential: elsewhere.credential });
  console.log(JSON.stringify({ tokens, seed }));
} finally {
  await browser.close();
}
