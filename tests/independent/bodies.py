"""What is committed or stands in the state, read whole: bodies of receipts and consents, values of entries, and the closed
lists of codes. Sections 2, 6.2 and 13 of docs/FORMATS.md."""
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
    "kind of access": "read write list denied void search",
    "channel": "api portal app link device",
    "custody": "server client passkey",
    "status of a key": "active revoked",
    "status of a profile": "active suspended revoked",
    "status of an affiliation": "active ended",
    "order": "app-ended app-registered misuse-lifted restore-lifted",
    "service": "auth access-policy storage",
    "agency type": "doctor hospital laboratory pharmacy insurer government auditor",
    "kind of entry": "members operators parameters service staff affiliation order key grant segment receipts erased release changes"
    " ballots event",
}
CODES = {name: codes.split() for name, codes in CODES.items()}
KINDS = CODES["kind of entry"]


def text(value, pattern, what):
    demand(isinstance(value, str) and re.fullmatch(pattern, value), f"{what} is outside its limits")


def integer(value, low, high, what):
    demand(type(value) is int and low <= value <= high, f"{what} is outside its limits")


def words(value, what):
    demand(isinstance(value, str) and 1 <= len(value.encode()) <= 200, f"{what} is outside its limits")
    demand(not re.search("[\0-\x1f\x7f-\x9f]", value), f"{what} has control characters")


def code(value, name):
    demand(isinstance(value, str) and value in CODES[name], f"not a code of {name}")


def codes(value, name, empty=False):
    demand(isinstance(value, list) and (value or empty), f"no list of {name}")
    for one in value:
        code(one, name)


def identity(value, prefixes, what):
    text(value, f"({prefixes})-[0-9a-f]{{32}}", what)


def moment(value, what):
    text(value, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", what)
    try:
        datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError as error:
        raise Refused(f"{what} is no time") from error
    return value


def check_receipt_body(body):
    needed = ("actor", "at", "categories", "id", "kind", "n", "patient", "purpose", "records", "rule")
    optional = ("case", "channel", "count", "emergency", "folded", "grant", "on_behalf_of", "organisation", "prev")
    fields(body, needed, optional)
    identity(body["actor"], "pat|agy|op", "actor")
    moment(body["at"], "at")
    codes(body["categories"], "category", empty=True)
    identity(body["id"], "rcp", "id")
    code(body["kind"], "kind of access")
    identity(body["patient"], "pat", "patient")
    code(body["purpose"], "purpose")
    demand(isinstance(body["rule"], str), "rule is no text")
    demand(isinstance(body["records"], list), "records are no list")
    for record in body["records"]:
        fields(record, ("record", "version"))
        identity(record["record"], "rec", "record")
        integer(record["version"], 0, 2**32 - 1, "version")
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
    if "folded" in body:
        integer(body["folded"], 1, LARGEST, "folded")
        demand(body["kind"] == "denied", "only a denial is folded")
    if "emergency" in body:
        identity(body["emergency"], "emg", "emergency")
        demand(body["purpose"] == "ETREAT", "an emergency access is for emergency treatment")
    if "on_behalf_of" in body:
        identity(body["on_behalf_of"], "pat|agy|op", "on_behalf_of")
    if "channel" in body:
        code(body["channel"], "channel")
    if "case" in body:
        text(body["case"], r"[!-~]{1,64}", "case")


def check_consent_body(body):
    fields(body, ("grant", "grantee", "patient", "scope"))
    identity(body["grant"], "grt", "grant")
    identity(body["grantee"], "agy", "grantee")
    identity(body["patient"], "pat", "patient")
    scope = body["scope"]
    fields(scope, ("actions", "categories", "from", "future_records", "purposes", "sensitivities", "until"))
    codes(scope["actions"], "action")
    codes(scope["categories"], "category")
    codes(scope["sensitivities"], "sensitivity")
    codes(scope["purposes"], "purpose")
    demand(isinstance(scope["future_records"], bool), "future_records is neither true nor false")
    # Times of one form are ordered like their texts.
    demand(moment(scope["from"], "from") < moment(scope["until"], "until"), "the consent ends before it begins")


def check_names(members, largest=1_000):
    demand(isinstance(members, list) and 1 <= len(members) <= largest, "no members, or too many")
    for member in members:
        fields(member, ("key", "name"))
        text(member["name"], NAME, "a name")
    names, keys = [m["name"] for m in members], [unhex(m["key"], 32, "a key") for m in members]
    demand(names == sorted(set(names)) and len(set(keys)) == len(keys), "members are not in order or not unique")
    for key in keys:
        check_key(key, "a member's key")


PARAMETERS = {
    "approvals": (1, 100),
    "heartbeat_ms": (1_000, 86_400_000),
    "max_block_bytes": (307_200, 8_388_608),
    "min_spacing_ms": (0, 60_000),
    "target": (0, 2**32 - 1),
}


def target_of(data):
    """The number of a compact target of 4 bytes."""
    length, mantissa = data[0], int.from_bytes(data[1:], "big")
    demand(0x8000 <= mantissa < 0x800000 and length >= 3, "not a minimal target")
    target = mantissa * 256 ** (length - 3)
    demand(target < 2**256, "not a target")
    return target


def check_parameters(value):
    fields(value, PARAMETERS)
    for name, (low, high) in PARAMETERS.items():
        integer(value[name], low, high, name)
    demand(256 - target_of(u32(value["target"])).bit_length() <= 40, "a target that takes too long")


def check_public(value, name):
    key = unhex(value["pub"], 32, "pub")
    check_key(key, "pub")
    demand(sha(key).hex() == name, "pub has another fingerprint")


def check_service(name, value):
    fields(value, ("pub", "role", "status"), ("txid",))
    check_public(value, name)
    code(value["role"], "service")
    code(value["status"], "status of a key")


def check_staff(name, value):
    fields(value, ("commitment", "organisation", "pub", "role", "status", "txid"))
    check_public(value, name)
    text(value["commitment"], DIGEST, "commitment")
    demand(isinstance(value["organisation"], str) and isinstance(value["role"], str), "no texts")
    code(value["status"], "status of a profile")


def check_key_entry(name, value):
    fields(value, ("prev", "pub", "seq", "status", "txid", "unseen"))
    check_public(value, name)
    integer(value["unseen"], 0, 64, "unseen")
    integer(value["seq"], 0, LARGEST, "seq")
    demand((value["prev"] is None) == (value["seq"] == 0), "prev does not fit seq")
    if value["prev"] is not None:
        text(value["prev"], DIGEST, "prev")
    code(value["status"], "status of a key")


def check_grant(_, value):
    fields(value, ("seq", "status", "txid"), ("commitment", "custody"))
    integer(value["seq"], 0, LARGEST, "seq")
    code(value["status"], "status of a key")
    unseen = value["seq"] == 0
    demand(("commitment" not in value) == ("custody" not in value) == unseen, "half a grant")
    demand(not unseen or value["status"] == "revoked", "a grant that nobody gave")
    if not unseen:
        text(value["commitment"], DIGEST, "commitment")
        code(value["custody"], "custody")


def check_affiliation(_, value):
    fields(value, ("commitment", "count", "status", "txid"))
    text(value["commitment"], DIGEST, "commitment")
    integer(value["count"], 1, LARGEST, "count")
    code(value["status"], "status of an affiliation")


def check_receipts(_, value):
    fields(value, ("count", "txid"), ("rights",))
    integer(value["count"], 1, LARGEST, "count")
    if "rights" in value:
        text(value["rights"], DIGEST, "rights")


def with_fields(*names):
    def check(_, value):
        fields(value, (*names, "txid"))
        if "count" in names:
            integer(value["count"], 1, LARGEST, "count")
        if "commitment" in names:
            text(value["commitment"], DIGEST, "commitment")
        if "period" in names:
            demand(isinstance(value["period"], str), "period is no text")

    return check


def check_ballots(_, value):
    demand(isinstance(value, list) and value, "no votes")
    for vote in value:
        fields(vote, ("ballot", "key", "txid"))
        for part in vote.values():
            text(part, DIGEST, "a vote")
    keys = [vote["key"] for vote in value]
    demand(keys == sorted(set(keys)), "votes are not in order")


VALUES = {
    "members": lambda _, value: check_names(value, 100),
    "operators": lambda _, value: check_names(value),
    "parameters": lambda _, value: check_parameters(value),
    "service": check_service,
    "staff": check_staff,
    "key": check_key_entry,
    "grant": check_grant,
    "segment": with_fields(),
    "event": with_fields(),
    "receipts": check_receipts,
    "affiliation": check_affiliation,
    "order": with_fields("commitment"),
    "erased": with_fields("commitment"),
    "release": with_fields("period"),
    "changes": with_fields("count"),
    "ballots": check_ballots,
}


def check_value(kind, name, value):
    """Section 6.2: a value is read whole."""
    VALUES[kind](name, value)
    if isinstance(value, dict) and "txid" in value:
        text(value["txid"], DIGEST, "txid")
