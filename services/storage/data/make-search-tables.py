#!/usr/bin/env python3
"""Makes search-parameters.json and summary-elements.json from HL7's own definitions of FHIR R4 (4.0.1).

Usage: make-search-tables.py hapi-fhir-validation-resources-r4-7.4.0.jar

The jar is on Maven Central (ca.uhn.hapi.fhir) and holds HL7's search-parameters.json and profiles-resources.xml unchanged.
"""

import json
import re
import sys
import xml.etree.ElementTree as tree
import zipfile

PARAMETERS = "org/hl7/fhir/r4/model/sp/search-parameters.json"
PROFILES = "org/hl7/fhir/r4/model/profile/profiles-resources.xml"
KINDS = {"token", "date", "reference", "string", "quantity", "uri", "number"}
# They name a resource inside the bundle, not a reference to one.
INSIDE = {"Bundle-composition", "Bundle-message"}
# No sounds are compared.
SOUNDS = "phonetic"


def alternatives(expression):
    """The parts between the bars of a FHIRPath union, without brackets that stand around them."""
    for part in re.split(r"\s*\|\s*", expression):
        part = part.strip()
        whole = re.fullmatch(r"\(([A-Za-z.]+)\)", part)
        yield whole.group(1) if whole else part


def parameters(bundle):
    """Name, kind, FHIRPath, definition and targets of each type's parameters."""
    table = {}
    for entry in bundle["entry"]:
        found = entry["resource"]
        if found["type"] not in KINDS or found["id"] in INSIDE or found["code"] == SOUNDS or "expression" not in found:
            continue
        for kind in found["base"]:
            if kind == "DomainResource":
                continue
            # One of HL7's expressions begins at the resource: `name | alias`.
            parts = [part if part[0] in "(" or part[0].isupper() else f"{kind}.{part}"
                     for part in alternatives(found["expression"])]
            of_kind = [part for part in parts if re.match(r"\(*([A-Za-z]+)", part).group(1) == kind]
            if not of_kind:
                sys.exit(f"{found['id']} says nothing of {kind}")
            row = {"name": found["code"], "type": found["type"], "path": " | ".join(of_kind), "id": found["id"]}
            if found["url"] != "http://hl7.org/fhir/SearchParameter/" + found["id"]:
                sys.exit(f"{found['id']} is defined elsewhere")
            if "target" in found:
                # Of nearly all types is of all of them: HL7's file lists the abstract ones in different ways.
                row["target"] = ["*"] if len(found["target"]) > 100 else sorted(found["target"])
            table.setdefault(kind, []).append(row)
    return {kind: sorted(rows, key=lambda row: row["name"]) for kind, rows in sorted(table.items())}


def summaries(text):
    """The elements of each type, by the names of JSON's members, that FHIR marks as parts of a summary."""
    space = "{http://hl7.org/fhir}"
    table = {}
    for profile in tree.fromstring(text).iter(space + "StructureDefinition"):
        kind = profile.find(space + "type").get("value")
        if profile.find(space + "derivation") is None or profile.find(space + "kind").get("value") != "resource":
            continue
        if profile.find(space + "url").get("value") != "http://hl7.org/fhir/StructureDefinition/" + kind:
            continue
        names = []
        for element in profile.find(space + "snapshot").iter(space + "element"):
            path = element.find(space + "path").get("value")
            marked = element.find(space + "isSummary")
            if path.count(".") != 1 or marked is None or marked.get("value") != "true":
                continue
            name = path.split(".")[1]
            if name.endswith("[x]"):
                types = [one.find(space + "code").get("value") for one in element.findall(space + "type")]
                names += [name[:-3] + one[0].upper() + one[1:] for one in types]
            else:
                names.append(name)
        table[kind] = names
    return dict(sorted(table.items()))


def lines(table, row):
    """JSON with one line for each row, so that a change is seen."""
    parts = [f"{json.dumps(kind)}: {row(rows)}" for kind, rows in table.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    with zipfile.ZipFile(sys.argv[1]) as jar:
        found = parameters(json.loads(jar.read(PARAMETERS)))
        marked = summaries(jar.read(PROFILES))
    with open("search-parameters.json", "w", encoding="utf-8") as file:
        file.write(lines(found, lambda rows: "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"))
    with open("summary-elements.json", "w", encoding="utf-8") as file:
        file.write(lines(marked, json.dumps))


if __name__ == "__main__":
    main()
