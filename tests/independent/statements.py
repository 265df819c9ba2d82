"""What keys state off the ledger: certificates, what their limits allow, and the numbers of a patient's records.
Sections 4 and 8 of docs/FORMATS.md."""
from bodies import *


def limits_form(limits):
    fields(limits, (), (*SCOPED, "from_ms", "future_records", "until_ms"))
    for part, value in limits.items():
        if part in SCOPED:
            codes(value, SCOPED[part], empty=True)
        elif part == "future_records":
            flag(value, part)
        else:
            integer(value, 0, LARGEST, part)


def check_limits(limits, scope, at):
    """Whether a key with these limits may give this scope in a block of that time."""
    limits_form(limits)
    begin, end = check_scope(scope)
    for part in SCOPED:
        demand(set(scope[part]) <= set(limits.get(part, scope[part])), f"the key may not give these {part}")
    demand(limits.get("from_ms", begin) <= begin, "the grant begins before the key may give")
    demand(limits.get("future_records", True) or not scope["future_records"], "the key may not give later records")
    demand(at < limits.get("until_ms", at + 1), "the key's time was over")
    demand(end <= limits.get("until_ms", end), "the grant lasts longer than the key may give")


def certificate_form(said):
    identity(said["grantee"], GRANTEES, "grantee")
    text(said["key"], DIGEST, "key")
    text(said["root"], DIGEST, "root")
    limits_form(said["limits"])


def delegation_form(said):
    text(said["delegate"], DIGEST, "delegate")
    text(said["root"], DIGEST, "root")
    demand(said["delegate"] != said["root"], "a delegate is somebody else")
    integer(said["until_ms"], 0, LARGEST, "until_ms")
    limits_form(said["limits"])


def new_root_form(said):
    identity(said["patient"], "pat", "patient")
    text(said["recovery"], DIGEST, "recovery")
    text(said["root"], DIGEST, "root")


def labels_of(value):
    fields(value["labels"], ("category", "sensitivity"))
    code(value["labels"]["category"], "category")
    code(value["labels"]["sensitivity"], "sensitivity")
    return value["labels"]["category"], value["labels"]["sensitivity"]


def by_labels(items):
    demand(isinstance(items, list), "no list of labels")
    named = {labels_of(one): one for one in items}
    demand(len(named) == len(items), "labels stand there twice")
    return named


def check_ranges(ranges, last):
    """Ranges of numbers from 1 to `last`, with at least one number between two of them."""
    demand(isinstance(ranges, list), "no list of ranges")
    least = 1
    for each in ranges:
        demand(isinstance(each, list) and len(each) == 2, "not a range")
        integer(each[0], least, last, "the first of a range")
        integer(each[1], each[0], last, "the last of a range")
        least = each[1] + 2


SPENT = ("erased", "open", "voided")


def numbers_form(said):
    identity(said["patient"], "pat", "patient")
    for one in by_labels(said["sets"]).values():
        fields(one, ("labels", "n_max", *SPENT))
        integer(one["n_max"], 0, LARGEST, "n_max")
        for part in SPENT:
            check_ranges(one[part], one["n_max"])
        together = sorted(sum((one[part] for part in SPENT), []))
        demand(all(a[1] < b[0] for a, b in zip(together, together[1:])), "a number is in two of the lists")


def between(ranges, last):
    """The numbers from 1 to `last` that are in no range."""
    gaps, due = [], 1
    for first, end in sorted(ranges):
        if due < first:
            gaps.append([due, first - 1])
        due = max(due, end + 1)
    return gaps + ([[due, last]] if due <= last else [])


def missing(said, held):
    """Which numbers of a statement are accounted for by nobody, under their labels."""
    sets, held = by_labels(said["sets"]), by_labels(held)
    for labels, one in held.items():
        fields(one, ("labels", "numbers"))
        demand(labels in sets, "labels of which nothing is stated")
        check_ranges(one["numbers"], sets[labels]["n_max"])
    found = []
    for labels, one in sets.items():
        known = sum((one[part] for part in SPENT), held.get(labels, {"numbers": []})["numbers"])
        gaps = between(known, one["n_max"])
        if gaps:
            found.append({"labels": one["labels"], "numbers": gaps})
    return found


STATEMENTS = {
    "hbc-consent-cert+jws": ("grantee key limits root", certificate_form),
    "hbc-delegate-cert+jws": ("delegate limits root until_ms", delegation_form),
    "hbc-root-cert+jws": ("patient recovery root", new_root_form),
    "hbc-numbers+jws": ("patient sets", numbers_form),
}


def read_payload(said, typ):
    """The payload of a statement, read whole."""
    needed, check = STATEMENTS[typ]
    fields(said, ("chain", "iat", *needed.split()))
    text(said["chain"], DIGEST, "chain")
    integer(said["iat"], 0, LARGEST, "iat")
    check(said)


def read_statement(jws, typ, key, chain):
    """What a key says for this chain. Certificates of consents and delegations name the root key that signs them."""
    said = open_jws(jws, typ, key)
    read_payload(said, typ)
    demand(said["chain"] == chain, f"{typ} is for another chain")
    if typ in ("hbc-consent-cert+jws", "hbc-delegate-cert+jws"):
        demand(said["root"] == sha(key).hex(), f"{typ} has another root")
    return said
