"""Named checks of a FHIR library, each by itself: says `ok NAME` or `failed NAME: why` of each, a line each. In: a line of {fhir,
token, patient, unique} as JSON; `unique` is a word that no other run uses."""

import asyncio
import inspect
import json
import sys

CHECKS = []
PULSE = {"system": "http://loinc.org", "code": "8867-4"}
IDENTIFIERS = "urn:example:fhir-libraries"


def check(function):
    """Marks a check; its name is the function's, with spaces."""
    CHECKS.append(function)
    return function


def given():
    """What the test tells the program."""
    return json.loads(sys.stdin.readline())


def run(world):
    """Runs every check with `world`, whatever becomes of the others."""
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            result = function(world)
            if inspect.isawaitable(result):
                asyncio.run(waited(result))
            print(f"ok {name}", flush=True)
        except BaseException as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"failed {name}: {why[:600]}", flush=True)


async def waited(result):
    """A coroutine of any kind, run to its end."""
    return await result


def pulse(patient, identifier=None, beats=72, at="2026-03-01T08:00:00Z"):
    """An observation as devices and apps make them."""
    made = {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                    }
                ]
            }
        ],
        "code": {"coding": [PULSE]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": at,
        "valueQuantity": {
            "value": beats,
            "unit": "beats/minute",
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        },
    }
    if identifier:
        made["identifier"] = [{"system": IDENTIFIERS, "value": identifier}]
    return made


def visit(patient, unique):
    """A transaction: an encounter, and an observation that refers to it as FHIR says."""
    encounter = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{patient}"},
    }
    observation = pulse(patient, f"{unique}-visit")
    observation["encounter"] = {"reference": "urn:uuid:6f1c2c4e-8a0b-4b53-a3a1-7a1c7a0d2f10"}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:6f1c2c4e-8a0b-4b53-a3a1-7a1c7a0d2f10",
                "resource": encounter,
                "request": {"method": "POST", "url": "Encounter"},
            },
            {"resource": observation, "request": {"method": "POST", "url": "Observation"}},
        ],
    }
