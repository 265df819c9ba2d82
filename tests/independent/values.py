"""What stands in the state: genesis.json's lists and parameters, and the values of entries, each read whole.
Sections 6.1 and 6.2 of docs/FORMATS.md."""
from bodies import *


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
