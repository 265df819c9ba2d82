// fhir-kit-client, unmodified, with base URL and bearer token alone: the examples of its README, and what any client does.

import { strict as assert } from "node:assert";
import { CapabilityTool, Client } from "fhir-kit-client";
import { IDENTIFIERS, given, matches, pulse, refusal, run, visit } from "./checks.mjs";

const { fhir, token, patient, unique } = await given();
const client = new Client({ baseUrl: fhir, bearerToken: token });
const observation = (word) => pulse(patient, `${unique}-${word}`);
const made = (word) => client.create({ resourceType: "Observation", body: observation(word) });
const immunizations = (searchParams) => client.search({ resourceType: "Immunization", searchParams });
const all = async (bundle) => {
  const found = [];
  for (let page = bundle; page; page = await client.nextPage({ bundle: page })) found.push(...matches(page));
  return found;
};

await run({
  "it finds where to authorize": async () => {
    const { authorizeUrl, tokenUrl } = await new Client({ baseUrl: fhir }).smartAuthMetadata();
    assert(tokenUrl.pathname.endsWith("/oauth/token") && authorizeUrl, `${tokenUrl} ${authorizeUrl}`);
  },
  "the capability statement says what is so": async () => {
    const tool = new CapabilityTool(await client.capabilityStatement());
    assert(tool.serverCan("transaction") && tool.serverCan("batch"));
    for (const what of ["read", "vread", "create", "search-type", "update", "delete", "patch", "history-instance"]) {
      assert(tool.resourceCan("Observation", what), what);
    }
    for (const name of ["patient", "code", "date", "status", "identifier"]) {
      assert(tool.resourceSearch("Observation", name), name);
    }
  },
  "a resource is created and read": async () => {
    const one = await made("read");
    const { response } = Client.httpFor(one);
    assert.equal(response.status, 201);
    assert(response.headers.get("location").endsWith(`/Observation/${one.id}/_history/1`), response.headers.get("location"));
    const read = await client.read({ resourceType: "Observation", id: one.id });
    assert.deepEqual(read, one);
    assert.equal(Client.httpFor(read).response.headers.get("etag"), 'W/"1"');
    assert.deepEqual(await client.vread({ resourceType: "Observation", id: one.id, version: "1" }), one);
  },
  "a create may answer nothing": async () => {
    const options = { headers: { Prefer: "return=minimal" } };
    const answer = await client.create({ resourceType: "Observation", body: observation("minimal"), options });
    assert.deepEqual(answer, {});
    assert(Client.httpFor(answer).response.headers.get("location"));
  },
  "references are resolved": async () => {
    const one = await made("resolve");
    for (const reference of [one.subject.reference, `${fhir}/${one.subject.reference}`]) {
      assert.equal((await client.resolve({ reference })).id, patient);
    }
  },
  "an update updates": async () => {
    const one = await made("update");
    const body = { ...one, status: "amended" };
    const changed = await client.update({ resourceType: "Observation", id: one.id, body });
    assert.deepEqual([changed.status, changed.meta.versionId], ["amended", "2"]);
  },
  "a stale save is its 412": async () => {
    const one = await made("stale");
    const save = () =>
      client.update({ resourceType: "Observation", id: one.id, body: one, options: { headers: { "If-Match": 'W/"1"' } } });
    await save();
    const { response } = await refusal(save());
    assert.deepEqual([response.status, response.data.resourceType], [412, "OperationOutcome"]);
  },
  "a conditional create makes one": async () => {
    const options = { headers: { "If-None-Exist": `identifier=${IDENTIFIERS}|${unique}-once` } };
    for (const status of [201, 200]) {
      const answer = await client.create({ resourceType: "Observation", body: observation("once"), options });
      assert.equal(Client.httpFor(answer).response.status, status);
    }
  },
  "a conditional update makes one": async () => {
    const searchParams = { identifier: `${IDENTIFIERS}|${unique}-conditional` };
    const ids = [];
    for (const status of [201, 200]) {
      const answer = await client.update({ resourceType: "Observation", searchParams, body: observation("conditional") });
      assert.equal(Client.httpFor(answer).response.status, status);
      ids.push(answer.id);
    }
    assert.equal(ids[0], ids[1]);
  },
  "a patch patches": async () => {
    const one = await made("patch");
    const patched = await client.patch({
      resourceType: "Observation",
      id: one.id,
      jsonPatch: [
        { op: "test", path: "/status", value: "final" },
        { op: "replace", path: "/status", value: "amended" },
        { op: "add", path: "/note", value: [{ text: "at rest" }] },
      ],
    });
    assert.deepEqual([patched.status, patched.note[0].text, patched.meta.versionId], ["amended", "at rest", "2"]);
  },
  "a deleted resource is gone": async () => {
    const one = await made("delete");
    await client.delete({ resourceType: "Observation", id: one.id });
    const { response } = await refusal(client.read({ resourceType: "Observation", id: one.id }));
    assert.deepEqual([response.status, response.data.resourceType], [410, "OperationOutcome"]);
    await client.delete({ resourceType: "Observation", id: one.id });
  },
  "faults are its errors": async () => {
    const lost = await refusal(client.read({ resourceType: "Observation", id: "nothing-of-that-name" }));
    assert.deepEqual([lost.response.status, lost.response.data.issue[0].code], [404, "not-found"]);
    const body = { resourceType: "Observation", status: "nonsense", code: { text: "x" } };
    const wrong = await refusal(client.create({ resourceType: "Observation", body }));
    assert.deepEqual([wrong.response.status, wrong.response.data.issue[0].expression], [422, ["Observation.status"]]);
  },
  "a search has parameters": async () => {
    const one = await made("search");
    const searchParams = { identifier: `${IDENTIFIERS}|${unique}-search`, code: "8867-4", date: ["ge2026-03-01", "lt2026-03-02"] };
    const found = matches(await client.search({ resourceType: "Observation", searchParams }));
    assert.deepEqual(found.map((one) => one.id), [one.id]);
    assert.equal((await immunizations({ patient, status: "completed" })).total, 7);
  },
  "a search may be posted": async () => {
    const options = { postSearch: true };
    const found = await client.search({ resourceType: "Immunization", searchParams: { patient, status: "completed" }, options });
    assert.equal(found.total, 7);
  },
  "a compartment is searched": async () => {
    const compartment = { resourceType: "Patient", id: patient };
    assert.equal((await client.search({ resourceType: "Immunization", compartment })).total, 7);
  },
  "all types are not searched at once, as the capability statement says": async () => {
    assert(!new CapabilityTool(await client.capabilityStatement()).serverCan("search-system"));
    const refused = await refusal(client.search({ searchParams: { _type: "Immunization,Encounter" } }));
    assert.deepEqual([refused.response.status, refused.response.data.issue[0].code], [405, "not-supported"]);
    const input = { _type: "Immunization,Encounter", _count: 100 };
    const found = await client.operation({ name: "everything", resourceType: "Patient", id: patient, method: "GET", input });
    assert.deepEqual(new Set(matches(found).map((one) => one.resourceType)), new Set(["Immunization", "Encounter"]));
  },
  "pages are followed to the end and back": async () => {
    const first = await immunizations({ _count: "2" });
    const found = await all(first);
    assert.deepEqual([found.length, new Set(found.map((one) => one.id)).size], [7, 7]);
    const second = await client.nextPage({ bundle: first });
    const back = await client.prevPage({ bundle: second });
    assert.deepEqual(matches(back).map((one) => one.id), matches(first).map((one) => one.id));
  },
  "results are sorted and counted": async () => {
    const dates = (await all(await immunizations({ _sort: "-date", _count: "3" }))).map((one) => one.occurrenceDateTime);
    assert.deepEqual([dates.length, dates], [7, [...dates].sort().reverse()]);
    const counted = await immunizations({ _summary: "count" });
    assert.deepEqual([counted.total, counted.entry], [7, undefined]);
  },
  "what is referred to is included": async () => {
    const found = await immunizations({ _include: "Immunization:patient" });
    const included = found.entry.filter((one) => one.search.mode === "include").map((one) => one.resource.id);
    assert.deepEqual([included, found.total], [[patient], 7]);
  },
  "a transaction is whole": async () => {
    const answer = await client.transaction({ body: visit(patient, unique) });
    assert.deepEqual(answer.entry.map((one) => one.response.status.slice(0, 3)), ["201", "201"]);
    const [encounter, observation] = answer.entry.map((one) => one.response.location.replace(/\/_history\/.*/, ""));
    assert.equal((await client.request(observation)).encounter.reference, encounter);
  },
  "a batch reads, writes and says of each what came of it": async () => {
    const request = (method, url) => ({ request: { method, url } });
    const body = {
      resourceType: "Bundle",
      type: "batch",
      entry: [
        request("GET", `Patient/${patient}`),
        request("GET", `Immunization?patient=${patient}&_count=3`),
        request("GET", "Observation/nothing-of-that-name"),
        { resource: observation("batch"), ...request("POST", "Observation") },
      ],
    };
    const answer = await client.batch({ body });
    assert.deepEqual(answer.entry.map((one) => one.response.status.slice(0, 3)), ["200", "200", "404", "201"]);
    assert.deepEqual([answer.entry[0].resource.id, answer.entry[1].resource.total], [patient, 7]);
  },
  "histories of one, of a type and of all": async () => {
    const one = await made("history");
    await client.update({ resourceType: "Observation", id: one.id, body: { ...one, status: "amended" } });
    await client.delete({ resourceType: "Observation", id: one.id });
    const history = await client.history({ resourceType: "Observation", id: one.id });
    assert.deepEqual(history.entry.map((one) => one.request.method), ["DELETE", "PUT", "POST"]);
    assert.equal(history.entry[2].resource.status, "final");
    for (const more of [await client.history({ resourceType: "Observation" }), await client.history()]) {
      const newest = more.entry[0];
      assert.deepEqual([more.type, newest.request.method], ["history", "DELETE"]);
      assert(newest.fullUrl.endsWith(`/Observation/${one.id}`), newest.fullUrl);
    }
  },
  "everything is given": async () => {
    const parameters = { resourceType: "Parameters", parameter: [{ name: "_count", valueInteger: 500 }] };
    for (const [method, input] of [["GET", { _count: 500 }], ["POST", parameters]]) {
      const found = await client.operation({ name: "everything", resourceType: "Patient", id: patient, method, input });
      assert(matches(found).some((one) => one.resourceType === "Patient"), method);
    }
    assert((await client.operation({ name: "$everything", resourceType: "Patient", id: patient })).total >= 66);
  },
  "a resource is validated": async () => {
    const outcome = await client.operation({ name: "validate", resourceType: "Observation", input: observation("validate") });
    assert(outcome.issue.every((issue) => issue.severity !== "error"));
  },
});
