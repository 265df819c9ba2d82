"""The closed lists of codes, and what is committed or released, each body read whole. Sections 2 and 13 of
docs/FORMATS.md."""
import datetime

from base import *

NAME = "[a-z0-9][a-z0-9-]{0,62}"
DIGEST = "[0-9a-f]{64}"
LARGEST = 2**53 - 1
CODES = {
    "action": "read write answer",
    "category": "demographics encounter condition allergy laboratory vital-signs social-history observation medication"
    " immunization procedure imaging care-plan document device financial directory other",
    "sensitivity": "normal ETH PSY HIV STD SUD GDIS SDV restricted",
    "purpose": "TREAT ETREAT HPAYMT COVERAGE HRESCH PUBHLTH PATRQT",
    "kind of access": "read write list denied void search session closed",
    "channel": "api portal app link device",
    "custody": "server client passkey",
    "status of a key": "active revoked",
    "status of a profile": "active suspended revoked",
    "ground of an erasure": "patient-request account-closed legal-order",
    "dimension": "age-band code month region sex",
    "status of an affiliation": "active ended",
    "order": "app-ended app-registered misuse-lifted restore-lifted root-replaced",
    "service": "auth access-policy storage",
    "agency type": "doctor hospital laboratory pharmacy insurer government auditor",
    "kind of entry": "members operators parameters service staff affiliation order key grant segment receipts erased"
    " release changes ballots event",
}
CODES = {name: codes.split() for name, codes in CODES.items()}
KINDS = CODES["kind of entry"]
ORDERS = "|".join(CODES["order"])
DAY_MS = 86_400_000
EPOCH = datetime.datetime(1970, 1, 1)


def text(value, pattern, what):
    demand(isinstance(value, str) and re.fullmatch(pattern, value), f"{what} is outside its limits")


def integer(value, low, high, what):
    demand(type(value) is int and low <= value <= high, f"{what} is outside its limits")


def words(value, what, largest=200):
    """So many bytes, of any characters."""
    demand(isinstance(value, str) and 1 <= len(value.encode()) <= largest, f"{what} is outside its limits")


def plain(value, what, largest=200):
    words(value, what, largest)
    demand(not re.search("[\0-\x1f\x7f-\x9f]", value), f"{what} has control characters")


def flag(value, what):
    demand(isinstance(value, bool), f"{what} is neither true nor false")


def ascending(items, what):
    demand(all(one < two for one, two in zip(items, items[1:])), f"{what} do not ascend")


def code(value, name):
    demand(isinstance(value, str) and value in CODES[name], f"not a code of {name}")


def codes(value, name, empty=False):
    demand(isinstance(value, list) and (value or empty), f"no list of {name}")
    for one in value:
        code(one, name)


def identity(value, prefixes, what):
    text(value, f"({prefixes})-[0-9a-f]{{32}}", what)


def moment(value, what):
    """A time of a body in Unix milliseconds."""
    text(value, "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z", what)
    try:
        since = datetime.datetime.fromisoformat(value[:-1]) - EPOCH
    except ValueError as error:
        raise Refused(f"{what} is no time") from error
    return since // datetime.timedelta(milliseconds=1)


def check_records(records, least):
    demand(isinstance(records, list), "records are no list")
    for record in records:
        fields(record, ("record", "version"))
        identity(record["record"], "rec", "record")
        integer(record["version"], least, 2**32 - 1, "version")


def check_receipt_body(body):
    needed = ("actor", "at", "categories", "id", "kind", "n", "patient", "purpose", "records", "rule")
    optional = ("case", "channel", "count", "emergency", "folded", "grant", "on_behalf_of", "organisation", "prev")
    fields(body, needed, optional)
    identity(body["actor"], "pat|agy|op|app|dev", "actor")
    moment(body["at"], "at")
    codes(body["categories"], "category", empty=True)
    identity(body["id"], "rcp", "id")
    code(body["kind"], "kind of access")
    identity(body["patient"], "pat", "patient")
    code(body["purpose"], "purpose")
    demand(isinstance(body["rule"], str), "rule is no text")
    check_records(body["records"], least=0)
    if "grant" in body:
        identity(body["grant"], "grt", "grant")
    if "organisation" in body:
        identity(body["organisation"], "agy", "organisation")
    if "prev" in body:
        text(body["prev"], DIGEST, "prev")
    integer(body["n"], 1, LARGEST, "n")
    demand((body["n"] == 1) == ("prev" not in body), "prev does not fit n")
    demand(("count" in body) == (body["kind"] == "search"), "a search, and nothing else, has a count")
    if "count" in body:
        integer(body["count"], 0, LARGEST, "count")
        demand(not body["records"], "a search names no records")
    if body["kind"] == "session":
        demand(not body["records"] and not body["categories"], "a sign-in names no records and no categories")
        demand(body["actor"] == body["patient"], "a sign-in is the patient's own")
    if body["kind"] == "closed":
        demand(not body["records"] and not body["categories"], "a closing names no records and no categories")
        demand(body["actor"] == body["patient"], "a closing is the patient's own")
    if "folded" in body:
        integer(body["folded"], 1, LARGEST, "folded")
        demand(body["kind"] == "denied", "only a denial is folded")
    if "emergency" in body:
        identity(body["emergency"], "emg", "emergency")
        demand(body["purpose"] == "ETREAT", "an emergency access is for emergency treatment")
    if "on_behalf_of" in body:
        identity(body["on_behalf_of"], "pat|agy|op|app|dev", "on_behalf_of")
    if "channel" in body:
        code(body["channel"], "channel")
    if "case" in body:
        text(body["case"], r"[!-~]{1,64}", "case")


GRANTEES = "agy|app|dev|lnk"
SCOPED = {"actions": "action", "categories": "category", "purposes": "purpose", "sensitivities": "sensitivity"}


def check_scope(scope):
    """Its first and last moment."""
    fields(scope, ("actions", "categories", "from", "future_records", "purposes", "sensitivities", "until"))
    for part, name in SCOPED.items():
        codes(scope[part], name)
    flag(scope["future_records"], "future_records")
    begin, end = moment(scope["from"], "from"), moment(scope["until"], "until")
    demand(begin < end, "the consent ends before it begins")
    return begin, end


def check_consent_body(body):
    fields(body, ("grant", "grantee", "patient", "scope"), ("device", "offline", "opens"))
    identity(body["grant"], "grt", "grant")
    identity(body["grantee"], GRANTEES, "grantee")
    identity(body["patient"], "pat", "patient")
    scope = body["scope"]
    begin, end = check_scope(scope)
    kind = body["grantee"][:3]
    for field, owner in {"offline": "app", "device": "dev", "opens": "lnk"}.items():
        demand((field in body) == (kind == owner), f"{field} is of {owner}-… and of nothing else")
    if kind == "app":
        flag(body["offline"], "offline")
        demand(end - begin <= 90 * DAY_MS, "an app has at most 90 days")
    if kind == "dev":
        text(body["device"], DIGEST, "device")
        demand(set(scope["actions"]) == {"write"}, "a device only writes")
    if kind == "lnk":
        integer(body["opens"], 1, 1_000, "opens")
        demand(set(scope["actions"]) == {"read"} and not scope["future_records"], "a link only reads what is there")


def check_staff_body(body):
    fields(body, ("agency", "agency_type", "licence_number", "name"))
    identity(body["agency"], "agy", "agency")
    code(body["agency_type"], "agency type")
    plain(body["licence_number"], "licence_number", 64)
    plain(body["name"], "name")


def check_member_body(body):
    fields(body, ("agency", "function", "organisation"))
    identity(body["agency"], "agy", "agency")
    plain(body["function"], "function")
    identity(body["organisation"], "agy", "organisation")
    demand(body["agency"] != body["organisation"], "a member of themselves")


def check_order_body(body):
    fields(body, ("kind", "reason", "subject"))
    code(body["kind"], "order")
    plain(body["reason"], "reason", 2_000)
    text(body["subject"], DIGEST, "subject")


def check_erasure_body(body):
    fields(body, ("at", "by", "ground", "patient", "records"))
    moment(body["at"], "at")
    identity(body["by"], "pat|op", "by")
    code(body["ground"], "ground of an erasure")
    identity(body["patient"], "pat", "patient")
    check_records(body["records"], least=1)
    demand(1 <= len(body["records"]) <= 1_024, "1 to 1,024 records")
    ascending([(one["record"], one["version"]) for one in body["records"]], "records")


def check_release_body(body):
    fields(body, ("at", "chain", "cubes", "period", "rounding", "threshold"))
    moment(body["at"], "at")
    text(body["chain"], DIGEST, "chain")
    plain(body["period"], "period")
    integer(body["rounding"], 1, 100, "rounding")
    integer(body["threshold"], 1, 1_000, "threshold")
    demand(isinstance(body["cubes"], list), "cubes are no list")
    for cube in body["cubes"]:
        check_cube(cube, body["rounding"], body["threshold"])
    ascending([(cube["system"], cube["dimensions"]) for cube in body["cubes"]], "cubes")


def check_cube(cube, rounding, threshold):
    fields(cube, ("cells", "dimensions", "system"))
    codes(cube["dimensions"], "dimension")
    ascending(cube["dimensions"], "dimensions")
    words(cube["system"], "system")
    demand((cube["system"] == "-") == ("code" not in cube["dimensions"]), "only codes have a system")
    demand(isinstance(cube["cells"], list), "cells are no list")
    for cell in cube["cells"]:
        fields(cell, ("count", "values"))
        integer(cell["count"], max(1, threshold - rounding), LARGEST, "count")
        demand(cell["count"] % rounding == 0, "a count is not rounded")
        demand(isinstance(cell["values"], list), "values are no list")
        demand(len(cell["values"]) == len(cube["dimensions"]), "not one value for each dimension")
        for value in cell["values"]:
            words(value, "a value")
    ascending([cell["values"] for cell in cube["cells"]], "cells")


BODIES = {
    "consent": check_consent_body,
    "receipt": check_receipt_body,
    "staff": check_staff_body,
    "member": check_member_body,
    "order": check_order_body,
    "erasure": check_erasure_body,
    "release": check_release_body,
}
