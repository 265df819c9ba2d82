// Drafts and signs a grant with types that were generated from the descriptions alone.
//
// Reads one JSON object from standard input: the addresses of auth and access-policy, a patient's username and password,
// and the agency that is to read. Prints the id of the grant.

import createClient from "openapi-fetch";

import type { paths as AccessPolicy } from "./access-policy.js";
import type { paths as Auth } from "./auth.js";

interface Given {
    auth: string;
    access_policy: string;
    username: string;
    password: string;
    agency: string;
}

/** The body of a success; a problem ends the program. */
function body<T>(answer: { data?: T; error?: unknown; response: Response }): T {
    if (answer.data === undefined) {
        throw new Error(`${answer.response.status}: ${JSON.stringify(answer.error)}`);
    }
    return answer.data;
}

async function read(): Promise<Given> {
    let text = "";
    for await (const chunk of process.stdin) {
        text += chunk;
    }
    return JSON.parse(text) as Given;
}

const given = await read();
const { username, password } = given;
const anybody = createClient<Auth>({ baseUrl: given.auth });
const tokens = body(await anybody.POST("/v1/sessions", { body: { username, password } }));

const headers = { Authorization: `Bearer ${tokens.access_token}` };
const auth = createClient<Auth>({ baseUrl: given.auth, headers });
const access = createClient<AccessPolicy>({ baseUrl: given.access_policy, headers });

const now = Date.now();
const scope = {
    actions: ["read" as const],
    categories: ["vital-signs" as const],
    sensitivities: ["normal" as const, "PSY" as const],
    purposes: ["TREAT" as const],
    from: new Date(now).toISOString(),
    until: new Date(now + 30 * 86_400_000).toISOString(),
    future_records: true,
};
const draft = body(await access.POST("/v1/grants", { body: { grantee: given.agency, scope } }));

const asked = { password, payload: draft.payload, body: draft.body, salt: draft.salt };
const signed = body(await auth.POST("/v1/me/consent-signatures", { body: asked }));

const path = { id: draft.id };
const { jws, certificate, registration } = signed;
body(
    await access.PUT("/v1/grants/{id}/signature", {
        params: { path },
        body: { jws, certificate, ...(registration == null ? {} : { registration }) },
    }),
);

const grant = body(await access.GET("/v1/grants/{id}", { params: { path } }));
if (grant.scope.categories.join() !== "vital-signs") {
    throw new Error(`the grant is about ${grant.scope.categories.join()}`);
}
process.stdout.write(`${grant.id}\n`);
