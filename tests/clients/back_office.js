// A stock OAuth client, openid-client, as an insurer's back office: it finds auth through the FHIR server's SMART
// configuration, proves itself with a key of its own (private_key_jwt), reads, asks whether its token is good, and gives it
// back. In: {fhir, client, private_key (PKCS #8), kid, search} as JSON; out: how many resources it found.

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
const tokens = await client.clientCredentialsGrant(server, { scope: "system/Observation.rs" });
if (tokens.token_type !== "bearer" || tokens.expires_in !== 300) throw new Error("not the token of RFC 6749");
const read = (url) =>
  client.fetchProtectedResource(server, tokens.access_token, new URL(url), "GET").then(
    (answer) => answer.json(),
    (error) => error,
  );
const found = await read(`${given.fhir}/${given.search}`);
const beyond = await read(`${given.fhir}/Condition?patient=x`);
if (beyond.status !== 403 || beyond.cause?.[0]?.parameters?.error !== "insufficient_scope") throw beyond;
const refused = await client.clientCredentialsGrant(server, { scope: "system/*.cruds" }).catch((error) => error);
if (refused.error !== "invalid_scope") throw refused;
const good = await client.tokenIntrospection(server, tokens.access_token);
if (!good.active || good.client_id !== given.client) throw new Error("the token is not good");
await client.tokenRevocation(server, tokens.access_token);
const ended = await client.tokenIntrospection(server, tokens.access_token);
if (ended.active) throw new Error("the token is still good");
console.log(found.entry.filter((entry) => entry.search.mode === "match").length);
