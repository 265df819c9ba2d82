// A stock OAuth client, openid-client, that knows auth's address and nothing else of HBC: it reads the metadata (RFC 8414),
// refreshes a session's tokens and gives them back. In: {issuer, refresh_token} as JSON; out: the new access token.

import { readFileSync } from "node:fs";
import * as client from "openid-client";

const given = JSON.parse(readFileSync(0, "utf8"));
const server = await client.discovery(new URL(given.issuer), "a-stock-client", undefined, client.None(), {
  algorithm: "oauth2",
  // The stack under test has no certificate.
  execute: [client.allowInsecureRequests],
});
const tokens = await client.refreshTokenGrant(server, given.refresh_token);
if (tokens.token_type !== "bearer" || tokens.expires_in !== 600) throw new Error("not the tokens of RFC 6749");
const refused = await client.refreshTokenGrant(server, "nonsense").catch((error) => error);
if (refused.error !== "invalid_grant" || refused.status !== 400) throw refused;
await client.tokenRevocation(server, tokens.refresh_token);
const ended = await client.refreshTokenGrant(server, tokens.refresh_token).catch((error) => error);
if (ended.error !== "invalid_grant") throw ended;
console.log(tokens.access_token);
