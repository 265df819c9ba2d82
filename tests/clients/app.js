// A stock OAuth client, openid-client, as a public third-party app: it finds auth through the FHIR server's SMART configuration, sends
// the patient's browser to the page (PKCE, state, nonce), exchanges the code, checks the issuer and the ID token, reads, and goes on
// with a refresh token. In: a line of {fhir, client, redirect_uri, scope} as JSON, then the address that the browser was sent back to;
// out: the address of the page, then how many observations it found.

import { createInterface } from "node:readline";
import * as client from "openid-client";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => (await lines.next()).value;
const given = JSON.parse(await next());
const smart = await (await fetch(`${given.fhir}/.well-known/smart-configuration`)).json();
const server = await client.discovery(new URL(smart.issuer), given.client, undefined, client.None(), {
  algorithm: "oauth2",
  // The stack under test has no certificate.
  execute: [client.allowInsecureRequests],
});
const [verifier, state, nonce] = [client.randomPKCECodeVerifier(), client.randomState(), client.randomNonce()];
const page = client.buildAuthorizationUrl(server, {
  redirect_uri: given.redirect_uri,
  scope: given.scope,
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
  nonce,
  aud: given.fhir,
});
console.log(page.href);
const back = new URL(await next());
const tokens = await client.authorizationCodeGrant(server, back, {
  pkceCodeVerifier: verifier,
  expectedState: state,
  expectedNonce: nonce,
});
const user = tokens.claims();
if (user.fhirUser !== `${given.fhir}/Patient/${tokens.patient}`) throw new Error(`fhirUser is ${user.fhirUser}`);
const read = async (token, path) =>
  (await client.fetchProtectedResource(server, token, new URL(`${given.fhir}/${path}`), "GET")).json();
const patient = await read(tokens.access_token, `Patient/${tokens.patient}`);
if (patient.resourceType !== "Patient") throw new Error("the patient cannot be read");
const fresh = await client.refreshTokenGrant(server, tokens.refresh_token);
const found = await read(fresh.access_token, "Observation");
const again = await client.authorizationCodeGrant(server, back, {
  pkceCodeVerifier: verifier,
  expectedState: state,
  expectedNonce: nonce,
}).catch((error) => error);
if (again.error !== "invalid_grant") throw new Error("a code was good twice");
const dead = await client.refreshTokenGrant(server, fresh.refresh_token).catch((error) => error);
if (dead.error !== "invalid_grant") throw new Error("what a replayed code opened goes on");
console.log(found.entry.filter((entry) => entry.search.mode === "match").length);
