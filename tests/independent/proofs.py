"""Proof documents. Section 8 of docs/FORMATS.md."""
import datetime
import re

from blocks import *
from chain import Transaction, check_genesis


# Section 8: proofs.
def check_named(named, header, members):
    """The state after `header` names these members."""
    fields(named, ("anchors", "map", "pages", "proof"))
    parts = [unhex(named[part], 32, part) for part in ("map", "anchors", "pages")]
    demand(header.state_root == H("hbc/state/v1", *parts), "the header has another state root")
    check_entry({"id": "", "kind": "members", "proof": named["proof"], "value": members}, parts[0])


def check_follows(header, before, chain):
    demand(header.prev == before.hash and header.height == before.height + 1, "another parent")
    demand((before.height == 0) == (before.hash == chain.hash), "another first block")


def said_by(header):
    return header.log_size, header.log_root, header.height, header.hash


class Ground:
    """The chain of a document, and the members of every height."""

    def __init__(self, proof, pinned):
        self.chain = chain_of(pinned)
        if "genesis" in proof:
            check_genesis(proof["genesis"])
            demand(chain_of(proof["genesis"]).hash == self.chain.hash, "another chain")
        demand(unhex(proof["chain"], 32, "chain") == self.chain.hash, "another chain")
        self.origin = f"{pinned['origin']}/hbc/{self.chain.hash.hex()[:16]}"
        self.sets, self.headers = [(0, pinned["members"])], {}
        for change in proof.get("sets", []):
            fields(change, ("certified", "members", "named"))
            header = self.certified(change["certified"])
            check_names(change["members"], 100)
            demand(change["members"] != self.sets[-1][1], "a change that changes nothing")
            check_named(change["named"], header, change["members"])
            self.sets.append((header.height, change["members"]))

    def members(self, height):
        return [members for after, members in self.sets if after < height or after == 0][-1]

    def is_one_chain(self, *headers):
        """Of all headers of a document no two differ at one height, and the log grows with the height."""
        for header in headers:
            known = self.headers.setdefault(header.height, header)
            demand(known.data == header.data, f"two blocks of height {header.height}")
        sizes = [self.headers[height].log_size for height in sorted(self.headers)]
        demand(all(one < two for one, two in zip(sizes, sizes[1:])), "the log does not grow with the height")

    def certified(self, block):
        """The header of a certified block, which lies after every change so far."""
        fields(block, ("before", "checkpoint", "header", "named"))
        header, before = header_of(block["header"]), header_of(block["before"])
        demand(header.height > self.sets[-1][0], "the checkpoint is not after the last change of members")
        demand(check_note(block["checkpoint"], self.origin, self.members) == said_by(header), "another block is certified")
        header.check_work()
        check_follows(header, before, self.chain)
        check_named(block["named"], before, self.members(header.height))
        self.is_one_chain(before, header)
        return header

    def past(self, block, certified):
        """The header of a checkpoint in the log of the certified block."""
        fields(block, ("checkpoint", "header", "path"))
        header = header_of(block["header"])
        demand(check_note(block["checkpoint"], self.origin, self.members) == said_by(header), "another block is certified")
        check_in_log(header, block["path"], certified)
        self.is_one_chain(header)
        return header


def check_in_log(header, path, certified):
    if header.hash == certified.hash:
        demand(path == [], "the certified block needs no path")
    else:
        demand(header.height < certified.height, "the block is after the checkpoint")
        check_inclusion(leaf(header.data), header.log_size, certified.log_size, path, certified.log_root, "block header")


def check_state(proof, pinned):
    """The document's block: its header and the roots of its map, anchors and pages."""
    state = proof["state"]
    fields(state, ("anchors", "certified", "map", "pages"))
    header = Ground(proof, pinned).certified(state["certified"])
    roots = [unhex(state[part], 32, part) for part in ("map", "anchors", "pages")]
    demand(header.state_root == H("hbc/state/v1", *roots), "the header has another state root")
    return header, roots


def check_entries(proof, pinned):
    fields(proof, ("chain", "entries", "state"), ("genesis", "sets"))
    header, roots = check_state(proof, pinned)
    values = [check_entry(entry, roots[0]) for entry in proof["entries"]]
    kinds, ids = [entry["kind"] for entry in proof["entries"]], [entry["id"] for entry in proof["entries"]]
    if kinds == ["grant", "key"]:
        demand(ids[0].split("/")[0] == ids[1], "another key than the grant's")
        force = all(value is not None and value["status"] == "active" for value in values)
        said = "in force" if force else "not in force"
    else:
        demand(len(kinds) == 1 and kinds != ["grant"], "not one entry, or a grant's and its key's")
        said = "absent" if values[0] is None else canonical(values[0]).decode()
    return f"{kinds[0]} {ids[0]} at height {header.height}: {said}"


def check_anchors(proof, pinned):
    fields(proof, ("answer", "chain", "query", "state"), ("genesis", "sets"))
    header, (_, anchors, pages) = check_state(proof, pinned)
    query = proof["query"]
    fields(query, ("as_of", "from", "to"))
    i32(query["from"]), i32(query["to"])
    demand(query["from"] <= query["to"], "the last day is before the first")
    demand(number(query["as_of"], "as_of") <= header.height, "the question is about later blocks")
    found = check_answer(proof["answer"], query, anchors, pages)
    return f"days {query['from']} to {query['to']} up to height {query['as_of']}: {len(found)} anchors"


def check_consistency(proof, pinned):
    fields(proof, ("certified", "chain", "from", "path", "to"), ("genesis", "sets"))
    ground = Ground(proof, pinned)
    certified = ground.certified(proof["certified"])
    old, new = (ground.past(proof[end], certified) for end in ("from", "to"))
    path = [unhex(item, 32, "a path") for item in proof["path"]]
    if old.height == new.height:
        demand(old.data == new.data and not path, "two blocks of one height")
    else:
        demand(old.height < new.height and 0 < old.log_size < new.log_size, "not an earlier and a later log")
        consistent(old.log_size, new.log_size, path, old.log_root, new.log_root)
    return f"the log only grew from height {old.height} to height {new.height}"


def consistent(first, second, path, old_root, new_root):
    """RFC 9162, section 2.1.4.2."""
    demand(first and path, "an empty proof")
    if first & (first - 1) == 0:
        path = [old_root] + path
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for item in path[1:]:
        demand(last, "the path is too long")
        if at & 1 or at == last:
            old, new = sha(b"\1" + item + old), sha(b"\1" + item + new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = sha(b"\1" + new + item)
        at, last = at >> 1, last >> 1
    demand(last == 0 and old == old_root and new == new_root, "the later log does not begin with the earlier one")


def check_transaction(proof, pinned):
    needed = ("author", "block", "certified", "chain", "index", "path", "transaction")
    fields(proof, needed, ("genesis", "sets"))
    ground = Ground(proof, pinned)
    certified = ground.certified(proof["certified"])

    author = unhex(proof["author"], 32, "author")
    open_jws(proof["transaction"], "hbc-tx+jws", author)
    payload = Transaction(proof["transaction"].encode()).payload
    demand(payload.get("chain") == proof["chain"], "the transaction is for another chain")
    index = number(proof["index"], "index")
    start = leaf(proof["transaction"].encode())
    check_inclusion(start, index, certified.log_size, proof["path"], certified.log_root, "transaction")

    fields(proof["block"], ("header", "parent", "path"))
    header, parent = header_of(proof["block"]["header"]), header_of(proof["block"]["parent"])
    header.check_work()
    check_follows(header, parent, ground.chain)
    demand(parent.log_size < index < header.log_size, "the transaction is in another block")
    check_in_log(header, proof["block"]["path"], certified)
    ground.is_one_chain(header, parent)
    return payload, author, header


def opened(domain, opening):
    fields(opening, ("body", "salt"))
    return H(domain, unhex(opening["salt"], 32, "salt"), canonical(opening["body"]))


def check_receipt(document, payload):
    fields(document, ("anchor", "format", "index", "path", "receipt"))
    demand(payload["type"] == "access.receipts", "not access.receipts")
    check_receipt_body(document["receipt"]["body"])
    start = leaf(opened("hbc/receipt/v1", document["receipt"]))
    root, index = unhex(payload["root"], 32, "root"), number(document["index"], "index")
    check_inclusion(start, index, payload["count"], document["path"], root, "receipt")


def check_record(document, payload):
    fields(document, ("anchor", "format", "index", "path", "record", "segment"))
    demand(payload["type"] == "record.anchor", "not record.anchor")
    record = document["record"]
    fields(record, ("encrypted", "id", "length", "offset", "received", "salt", "version"))
    identity(record["id"], "rec", "id")
    integer(record["version"], 0, 2**32 - 1, "version")
    number(record["offset"], "offset"), number(record["length"], "length")
    at = number(document["segment"], "segment")
    demand(at < len(payload["segments"]), "no such segment")
    segment = payload["segments"][at]
    demand(record["offset"] + record["length"] <= segment["bytes"], "the record ends after its segment")
    parts = [unhex(record["salt"], 32, "salt"), record["id"].encode(), u32(record["version"])]
    parts += [unhex(record[part], 32, part) for part in ("received", "encrypted")]
    commitment = H("hbc/record/v1", *parts, u64(record["offset"]), u64(record["length"]))
    root, index = unhex(segment["root"], 32, "root"), number(document["index"], "index")
    check_inclusion(leaf(commitment), index, segment["records"], document["path"], root, "record")


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def unix_ms(text):
    """A time as bodies have it (section 2) in Unix milliseconds."""
    demand(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), "not a time")
    since = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return since // datetime.timedelta(milliseconds=1)


def check_limits(limits, scope, header):
    fields(limits, (), ("actions", "categories", "from_ms", "future_records", "purposes", "sensitivities", "until_ms"))
    lists = {"actions": "action", "categories": "category", "purposes": "purpose", "sensitivities": "sensitivity"}
    for part, name in lists.items():
        codes(limits.get(part, []), name, empty=True)
        if part in limits:
            demand(set(scope[part]) <= set(limits[part]), f"the key may not give these {part}")
    if "from_ms" in limits:
        demand(number(limits["from_ms"], "from_ms") <= unix_ms(scope["from"]), "the grant begins before the key may give")
    if limits.get("future_records") is False:
        demand(scope["future_records"] is False, "the key may not give later records")
    if "until_ms" in limits:
        end = number(limits["until_ms"], "until_ms")
        demand(header.time_ms < end, "the key's time was over")
        demand(unix_ms(scope["until"]) <= end, "the grant lasts longer than the key may give")


def check_consent(document, payload, author, header):
    fields(document, ("anchor", "certificate", "consent", "format", "root"))
    demand(payload["type"] in ("consent.grant", "consent.alter"), "not a consent")
    demand(payload["key"] == sha(author).hex(), "not signed by its key")
    body = document["consent"]["body"]
    check_consent_body(body)
    commitment = opened("hbc/consent-body/v1", document["consent"])
    demand(commitment.hex() == payload["commitment"], "the body does not open the commitment")
    root = unhex(document["root"], 32, "root")
    certificate = open_jws(document["certificate"], "hbc-consent-cert+jws", root)
    expected = {"chain": payload["chain"], "key": payload["key"], "root": sha(root).hex()}
    expected.update(grantee=body["grantee"], grant=payload["grant"])
    demand(body["grant"] == expected.pop("grant"), "the body is of another grant")
    for name, value in expected.items():
        demand(certificate.get(name) == value, f"the certificate has another {name}")
    check_limits(certificate["limits"], body["scope"], header)


def verify(data, genesis):
    """Section 8.2: what has not the form of a document says nothing; what has, holds or is false."""
    document = read_document(data)
    kind = document["format"]
    bare = {k: v for k, v in document.items() if k != "format"}
    if kind in LEDGER:
        return LEDGER[kind](bare, genesis)
    if kind == "hbc-proof-transaction/v1":
        return told(*check_transaction(bare, genesis))
    payload, author, header = check_transaction(document["anchor"], genesis)
    if kind == "hbc-proof-receipt/v1":
        check_receipt(document, payload)
    elif kind == "hbc-proof-record/v1":
        check_record(document, payload)
    else:
        check_consent(document, payload, author, header)
    return told(payload, author, header)


def read_document(data):
    try:
        demand(data.endswith(b"\n"), "the file does not end with a line feed")
        demand(len(data) <= 33_554_432, "the file is too large")
        document = decode(data[:-1])
        check_shape(document, {"format": str, **SHAPES.get(document.get("format"), {})} if isinstance(document, dict) else {})
        demand(document["format"] in SHAPES, "unknown format")
    except (Refused, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a proof document: {error}") from error
    return document


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
    "members": MEMBERS, "operators": MEMBERS, "origin": str, "parameters": {name: whole(0, 2**64) for name in PARAMETERS},
    "services": many({"key": DIGEST32, "role": lambda value: code(value, "service")}), "time_ms": whole(),
}
COMMON = {"chain": DIGEST32, "genesis": maybe(GENESIS), "sets": maybe(SETS)}
TRANSACTION = {
    **COMMON, "author": DIGEST32, "block": {"header": HEADER, "parent": HEADER, "path": many(DIGEST32)},
    "certified": CERTIFIED, "index": whole(), "path": many(DIGEST32), "transaction": str,
}
OPENING = {"body": anything, "salt": DIGEST32}
COVERED = {"anchor": TRANSACTION, "index": whole(), "path": many(DIGEST32)}
PAST = {"checkpoint": str, "header": HEADER, "path": many(DIGEST32)}
STATE = {"anchors": DIGEST32, "certified": CERTIFIED, "map": DIGEST32, "pages": DIGEST32}
ENTRY = {"id": str, "kind": lambda value: code(value, "kind of entry"), "proof": MAP_PROOF, "value": maybe(anything)}
BOUNDS = {"day0": i32, "day1": i32, "height0": whole(), "height1": whole()}


def is_node(value):
    either({"closed": {"bounds": BOUNDS, "hash": DIGEST32}}, {"open": is_open})(value)


def is_open(value):
    either({"anchors": many(anchor_of)}, {"children": many(is_node)})(value)


RECORD = {
    "id": lambda value: identity(value, "rec", "id"), "length": whole(), "offset": whole(), "received": DIGEST32,
    "salt": DIGEST32, "encrypted": DIGEST32, "version": whole(0, 2**32 - 1),
}
SHAPES = {
    "hbc-proof-transaction/v1": TRANSACTION,
    "hbc-proof-receipt/v1": {**COVERED, "receipt": OPENING},
    "hbc-proof-record/v1": {**COVERED, "record": RECORD, "segment": whole()},
    "hbc-proof-consent/v1": {"anchor": TRANSACTION, "certificate": str, "consent": OPENING, "root": DIGEST32},
    "hbc-proof-consistency/v1": {**COMMON, "certified": CERTIFIED, "from": PAST, "path": many(DIGEST32), "to": PAST},
    "hbc-proof-state/v1": {**COMMON, "entries": many(ENTRY), "state": STATE},
    "hbc-proof-anchors/v1": {
        **COMMON, "answer": {"pages": many({"page": is_node, "run": DIGEST32}), "tail": many(anchor_of)},
        "query": {"as_of": whole(), "from": i32, "to": i32}, "state": STATE,
    },
}


def told(payload, author, header):
    return f"{payload['type']} by {sha(author).hex()} in block {header.height}, time_ms {header.time_ms}"


LEDGER = {
    "hbc-proof-consistency/v1": check_consistency,
    "hbc-proof-state/v1": check_entries,
    "hbc-proof-anchors/v1": check_anchors,
}
