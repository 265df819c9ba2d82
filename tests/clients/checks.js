// Named checks of a FHIR library, each by itself: says `ok NAME` or `failed NAME: why` of each, a line each. In: a line of {fhir, token,
// patient, unique} as JSON; `unique` is a word that no other run uses.

import { strict as assert } from "node:assert";
import { createInterface } from "node:readline";

export const IDENTIFIERS = "urn:example:fhir-libraries";

/** What the test tells the program. */
export const given = async () =>
  JSON.parse((await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()).value);

/** Runs every check, whatever becomes of the others. */
export const run = async (checks) => {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`failed ${name}: ${`${error}`.replace(/\s+/g, " ").slice(0, 600)}`);
    }
  }
  process.exit(0);
};

/** The error that a call ends with; there must be one. */
export const refusal = async (call) => {
  const error = await call.then(
    () => undefined,
    (error) => error,
  );
  assert(error, "it was not refused");
  return error;
};

/** An observation as devices and apps make them. */
export const pulse = (patient, identifier) => ({
  resourceType: "Observation",
  identifier: [{ system: IDENTIFIERS, value: identifier }],
  status: "final",
  category: [
    {
      coding: [{ system: "http://terminology.hl7.org/CodeSystem/observation-category", code: "vital-signs" }],
    },
  ],
  code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
  subject: { reference: `Patient/${patient}` },
  effectiveDateTime: "2026-03-01T08:00:00Z",
  valueQuantity: { value: 72, unit: "beats/minute", system: "http://unitsofmeasure.org", code: "/min" },
});

/** A transaction: an encounter, and an observation that refers to it as FHIR says. */
export const visit = (patient, unique) => {
  const place = "urn:uuid:6f1c2c4e-8a0b-4b53-a3a1-7a1c7a0d2f10";
  const encounter = {
    resourceType: "Encounter",
    status: "finished",
    class: { system: "http://terminology.hl7.org/CodeSystem/v3-ActCode", code: "AMB" },
    subject: { reference: `Patient/${patient}` },
  };
  const observation = { ...pulse(patient, `${unique}-visit`), encounter: { reference: place } };
  return {
    resourceType: "Bundle",
    type: "transaction",
    entry: [
      { fullUrl: place, resource: encounter, request: { method: "POST", url: "Encounter" } },
      { resource: observation, request: { method: "POST", url: "Observation" } },
    ],
  };
};

/** The resources of a searchset that were asked for. */
export const matches = (bundle) =>
  (bundle.entry ?? []).filter((one) => one.search.mode === "match").map((one) => one.resource);
