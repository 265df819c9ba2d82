"""The form of a document: which fields each format has, each of its type. Sections 8 and 8.2 of docs/FORMATS.md."""
from blocks import *
from statements import check_ranges


def read_document(data):
    try:
        demand(data.endswith(b"\n"), "the file does not end with a line feed")
        demand(len(data) <= 33_554_432, "the file is too large")
        document = decode(data[:-1])
        check_document(document, SHAPES)
    except (Refused, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a proof document: {error}") from error
    return document


def check_document(document, shapes):
    """One of these formats, with its fields."""
    demand(isinstance(document, dict) and document.get("format") in shapes, "unknown format")
    check_shape(document, {"format": str, **shapes[document["format"]]})


def hexes(length):
    return lambda value: unhex(value, length, "a value")


def many(shape, least=0):
    def check(value):
        demand(isinstance(value, list) and len(value) >= least, "not a list, or an empty one")
        for one in value:
            check_shape(one, shape)

    return check


def either(*shapes):
    def check(value):
        for shape in shapes:
            try:
                return check_shape(value, shape)
            except Refused:
                continue
        raise Refused("of no form that it can have")

    return check


def maybe(shape):
    return ("maybe", shape)


def anything(_):
    pass


def whole(low=0, high=LARGEST):
    return lambda value: integer(value, low, high, "a number")


def one_of(name):
    return lambda value: code(value, name)


def check_shape(value, shape):
    """The fields of an object, each of its type."""
    if isinstance(shape, dict):
        optional = [name for name, inner in shape.items() if isinstance(inner, tuple)]
        fields(value, [name for name in shape if name not in optional], optional)
        for name, inner in value.items():
            kind = shape[name]
            check_shape(inner, kind[1] if isinstance(kind, tuple) else kind)
    elif shape is str:
        demand(isinstance(value, str), "not a text")
    else:
        shape(value)


DIGEST32, HEADER = hexes(32), header_of
MAP_PROOF = {"other": maybe({"key": DIGEST32, "value": DIGEST32}), "path": many(DIGEST32)}
NAMED = {"anchors": DIGEST32, "map": DIGEST32, "pages": DIGEST32, "proof": MAP_PROOF}
CERTIFIED = {"before": HEADER, "checkpoint": str, "header": HEADER, "named": NAMED}
MEMBERS = many({"key": DIGEST32, "name": str})
SETS = many({"certified": CERTIFIED, "members": MEMBERS, "named": NAMED}, least=1)
GENESIS = {
    "members": MEMBERS, "operators": MEMBERS, "origin": str, "time_ms": whole(),
    "parameters": {name: whole(0, 2**64) for name in PARAMETERS},
    "services": many({"key": DIGEST32, "role": one_of("service")}),
}
COMMON = {"chain": DIGEST32, "genesis": maybe(GENESIS), "sets": maybe(SETS)}
BARE = {
    "author": DIGEST32, "block": {"header": HEADER, "parent": HEADER, "path": many(DIGEST32)}, "index": whole(),
    "path": many(DIGEST32), "transaction": str,
}
TRANSACTION = {**COMMON, **BARE, "certified": CERTIFIED}
OPENING = {"body": anything, "salt": DIGEST32}
PAST = {"checkpoint": str, "header": HEADER, "path": many(DIGEST32)}
STATE = {"anchors": DIGEST32, "certified": CERTIFIED, "map": DIGEST32, "pages": DIGEST32}
ENTRY = {"id": str, "kind": one_of("kind of entry"), "proof": MAP_PROOF, "value": maybe(anything)}
BOUNDS = {"day0": i32, "day1": i32, "height0": whole(), "height1": whole()}


def is_node(value):
    either({"closed": {"bounds": BOUNDS, "hash": DIGEST32}}, {"open": is_open})(value)


def is_open(value):
    either({"anchors": many(anchor_of)}, {"children": many(is_node)})(value)


RECORD = {
    "id": lambda value: identity(value, "rec", "id"), "length": whole(), "offset": whole(), "received": DIGEST32,
    "salt": DIGEST32, "encrypted": DIGEST32, "version": whole(0, 2**32 - 1),
}
DELEGATE = {"certificate": str, "root": DIGEST32}
PLACED = {"index": whole(), "path": many(DIGEST32)}
# What proofs have besides their anchor.
BESIDES = {
    "hbc-proof-receipt/v1": {**PLACED, "receipt": OPENING},
    "hbc-proof-record/v1": {**PLACED, "record": RECORD, "segment": whole()},
    "hbc-proof-consent/v1": {"certificate": str, "consent": OPENING, "delegate": maybe(DELEGATE), "root": DIGEST32},
    "hbc-proof-opening/v1": {"opened": {"body": anything, "salt": maybe(DIGEST32)}},
}
BUNDLED = {kind: {**shape, "anchor": whole()} for kind, shape in BESIDES.items()}
LABELS = {"category": one_of("category"), "sensitivity": one_of("sensitivity")}


def are_ranges(value):
    check_ranges(value, 2**53 - 1)


SHAPES = {
    "hbc-proof-transaction/v1": TRANSACTION,
    **{kind: {**shape, "anchor": TRANSACTION} for kind, shape in BESIDES.items()},
    "hbc-proof-bundle/v1": {
        **COMMON, "anchors": many(BARE), "certified": CERTIFIED,
        "proofs": many(lambda proof: check_document(proof, BUNDLED)),
    },
    "hbc-proof-consistency/v1": {**COMMON, "certified": CERTIFIED, "from": PAST, "path": many(DIGEST32), "to": PAST},
    "hbc-proof-state/v1": {**COMMON, "entries": many(ENTRY), "state": STATE},
    "hbc-proof-membership/v1": {
        **COMMON, "entries": many(ENTRY), "member": OPENING, "organisation": OPENING, "person": OPENING, "state": STATE,
    },
    "hbc-proof-numbers/v1": {
        **COMMON, "author": DIGEST32, "held": many({"labels": LABELS, "numbers": are_ranges}), "service": ENTRY,
        "state": STATE, "statement": str,
    },
    "hbc-proof-anchors/v1": {
        **COMMON, "answer": {"pages": many({"page": is_node, "run": DIGEST32}), "tail": many(anchor_of)},
        "query": {"as_of": whole(), "from": i32, "to": i32}, "state": STATE,
    },
}
