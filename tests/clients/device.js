// A stock OAuth client, openid-client, as a device: it finds auth through the FHIR server's SMART configuration, proves itself
// with its key (private_key_jwt), sends an observation, and may not read it. In: {fhir, client, private_key (PKCS #8), kid,
// observation} as JSON; out: the status of what it sent, and of what it tried to read.

import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import * as client from "openid-client";

const given = JSON.parse(readFileSync(0, "utf8"));
const smart = await (await fetch(`${given.fhir}/.well-known/smart-configuration`)).json();
const pkcs8 = createPrivateKey(given.private_key).export({ type: "pkcs8", format: "der" });
const algorithm = { name: "ECDSA", namedCurve: "P-384" };
const key = await crypto.subtle.importKey("pkcs8", pkcs8, algorithm, false, ["sign"]);
const server = await client.discovery(
  new URL(smart.issuer),
  given.client,
  undefined,
  client.PrivateKeyJwt({ key, kid: given.kid }),
  // The stack under test has no certificate.
  { algorithm: "oauth2", execute: [client.allowInsecureRequests] },
);
const tokens = await client.clientCredentialsGrant(server, { scope: "system/Observation.c" });
const headers = new Headers({ "content-type": "application/fhir+json" });
const url = new URL(`${given.fhir}/Observation`);
const body = JSON.stringify(given.observation);
const made = await client.fetchProtectedResource(server, tokens.access_token, url, "POST", body, headers);
const read = await client
  .fetchProtectedResource(server, tokens.access_token, new URL(made.headers.get("location"), given.fhir), "GET")
  .catch((error) => error);
const refused = await client.clientCredentialsGrant(server, { scope: "system/Observation.rs" }).catch((error) => error);
if (refused.error !== "invalid_scope") throw refused;
console.log(`${made.status} ${read.status}`);
