#!/usr/bin/env python3
"""Makes invariants.json from HL7's StructureDefinitions: python3 make-invariants.py FOLDER > invariants.json

FOLDER is `package` of the npm package hl7.fhir.r4.examples 4.0.1 (CC0-1.0), unpacked:
npm pack hl7.fhir.r4.examples@4.0.1 && tar xzf hl7.fhir.r4.examples-4.0.1.tgz

Taken are the invariants of severity `error` that a type's own definition states (its differential), with the element on
which each holds. Inherited ones stand once, at the type that states them.
"""

import json
import pathlib
import sys

KINDS = ("resource", "complex-type")


QUANTITY = "http://hl7.org/fhir/StructureDefinition/Quantity"


def constraints(definition):
    """Of the differential; of the kinds of Quantity, what they inherit too."""
    inherits = definition.get("baseDefinition") == QUANTITY
    for element in definition["snapshot" if inherits else "differential"]["element"]:
        for constraint in element.get("constraint", []):
            if constraint["severity"] == "error" and not (inherits and constraint["key"] in ("ele-1", "ext-1")):
                yield {
                    "on": element["path"],
                    "key": constraint["key"],
                    "human": constraint["human"].strip().rstrip("."),
                    "expression": constraint["expression"],
                }


def main(folder):
    found = []
    for path in sorted(pathlib.Path(folder).glob("StructureDefinition-*.json")):
        definition = json.loads(path.read_text(encoding="utf-8"))
        if definition["kind"] in KINDS and definition.get("derivation") != "constraint":
            found.extend(constraints(definition))
    # Some types state again what another states.
    lines = sorted({json.dumps(one, ensure_ascii=False) for one in found})
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    main(*sys.argv[1:])
