// The SMART JavaScript client (fhirclient), unmodified, as a program that has a token already: the examples of its documentation, and
// what any client does. `smart.js` shows it being launched, in a browser.

import { strict as assert } from "node:assert";
import smart from "fhirclient";
import { IDENTIFIERS, given, pulse, refusal, run, visit } from "./checks.mjs";

const { fhir, token, patient, unique } = await given();
// What a request to the app's own server would be: the library reads it in a launch alone.
const api = smart({ headers: {}, socket: {}, url: "/" }, {}, {});
const client = api.client({ serverUrl: fhir, tokenResponse: { access_token: token, patient, token_type: "Bearer" } });
const made = (word) => client.create(pulse(patient, `${unique}-${word}`));
const flat = (url, more) => client.request(url, { pageLimit: 0, flat: true, ...more });

await run({
  "the patient in context is read": async () => {
    const one = await client.patient.read();
    assert.deepEqual([client.patient.id, one.id, one.resourceType], [patient, patient, "Patient"]);
    assert.equal(await client.getFhirRelease(), 4);
  },
  "what is asked for is the patient's": async () => {
    assert.equal((await client.patient.request("Immunization")).total, 7);
    assert.equal((await client.patient.request("Immunization?status=not-done")).total, 0);
  },
  "a resource is created, read and updated": async () => {
    const one = await made("update");
    assert.deepEqual(await client.request(`Observation/${one.id}`), one);
    const changed = await client.update({ ...one, status: "amended" });
    assert.deepEqual([changed.status, changed.meta.versionId], ["amended", "2"]);
  },
  "a patch patches": async () => {
    const one = await made("patch");
    const patched = await client.patch(`Observation/${one.id}`, [{ op: "replace", path: "/status", value: "amended" }]);
    assert.deepEqual([patched.status, patched.meta.versionId], ["amended", "2"]);
  },
  "a stale save is its 412": async () => {
    const one = await made("stale");
    const save = () => client.update(one, { headers: { "if-match": 'W/"1"' } });
    await save();
    assert.equal((await refusal(save())).status, 412);
  },
  "faults are its errors": async () => {
    assert.equal((await refusal(client.request("Observation/nothing-of-that-name"))).status, 404);
    const wrong = await refusal(client.create({ resourceType: "Observation", status: "final", code: [] }));
    assert.equal(wrong.status, 422);
    assert.match((await wrong.parse()).message, /"Observation\.code"/);
  },
  "a deleted resource is gone": async () => {
    const one = await made("delete");
    await client.delete(`Observation/${one.id}`);
    assert.equal((await refusal(client.request(`Observation/${one.id}`))).status, 410);
  },
  "pages are followed to the end": async () => {
    const ids = (await flat("Immunization?_count=2")).map((one) => one.id);
    assert.deepEqual([ids.length, new Set(ids).size], [7, 7]);
    const seen = [];
    for await (const one of client.resources("Immunization?_count=3")) seen.push(one.id);
    assert.deepEqual(new Set(seen), new Set(ids));
  },
  "results are sorted": async () => {
    const dates = (await flat("Immunization?_sort=-date&_count=3")).map((one) => one.occurrenceDateTime);
    assert.deepEqual([dates.length, dates], [7, [...dates].sort().reverse()]);
    assert.equal((await client.request("Immunization?_summary=count")).total, 7);
  },
  "references are resolved on the way": async () => {
    const found = await client.request("Immunization?_count=2", { resolveReferences: ["patient", "encounter"], flat: true });
    assert(found.every((one) => one.patient.id === patient && one.encounter.resourceType === "Encounter"), found.length);
  },
  "observations are grouped by their codes": async () => {
    await made("code");
    const found = await flat(`Observation?code=http://loinc.org|8867-4,http://loinc.org|8302-2&_count=100`);
    const byCode = client.byCode(found, "code");
    assert(byCode["8867-4"].length > 0 && byCode["8302-2"].length > 0, Object.keys(byCode).join());
  },
  "a conditional create makes one": async () => {
    const headers = { "if-none-exist": `identifier=${IDENTIFIERS}|${unique}-once` };
    for (const _ of [1, 2]) await client.create(pulse(patient, `${unique}-once`), { headers });
    assert.equal((await client.request(`Observation?identifier=${IDENTIFIERS}|${unique}-once`)).total, 1);
  },
  "a transaction is whole": async () => {
    const body = JSON.stringify(visit(patient, unique));
    const answer = await client.request({ url: "", method: "POST", body, headers: { "content-type": "application/fhir+json" } });
    assert.deepEqual(answer.entry.map((one) => one.response.status.slice(0, 3)), ["201", "201"]);
    const [encounter, observation] = answer.entry.map((one) => one.response.location);
    assert.equal((await client.request(observation)).encounter.reference, encounter.replace(/\/_history\/.*/, ""));
  },
  "a history has every version": async () => {
    const one = await made("history");
    await client.update({ ...one, status: "amended" });
    await client.delete(`Observation/${one.id}`);
    const history = await client.request(`Observation/${one.id}/_history`);
    assert.deepEqual(history.entry.map((one) => one.request.method), ["DELETE", "PUT", "POST"]);
  },
  "everything is given": async () => {
    const kinds = new Set((await flat(`Patient/${patient}/$everything?_count=30`)).map((one) => one.resourceType));
    assert(kinds.has("Patient") && kinds.has("Immunization") && kinds.has("Encounter"), [...kinds].join());
  },
});
