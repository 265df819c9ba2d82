"""Proof documents. Section 8 of docs/FORMATS.md."""
import re
from datetime import datetime, timedelta, timezone

from blocks import *


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
        demand(chain_of(proof.get("genesis", pinned)).hash == self.chain.hash, "another chain")
        demand(unhex(proof["chain"], 32, "chain") == self.chain.hash, "another chain")
        self.origin = f"{pinned['origin']}/hbc/{self.chain.hash.hex()[:16]}"
        self.sets = [(0, pinned["members"])]
        demand(proof.get("sets") != [], "an empty list of changes")
        for change in proof.get("sets", []):
            fields(change, ("certified", "members", "named"))
            header = self.certified(change["certified"])
            check_names(change["members"])
            check_named(change["named"], header, change["members"])
            self.sets.append((header.height, change["members"]))

    def members(self, height):
        return [members for after, members in self.sets if after < height or after == 0][-1]

    def certified(self, block):
        """The header of a certified block, which lies after every change so far."""
        fields(block, ("before", "checkpoint", "header", "named"))
        header, before = header_of(block["header"]), header_of(block["before"])
        demand(header.height > self.sets[-1][0], "the checkpoint is not after the last change of members")
        demand(check_note(block["checkpoint"], self.origin, self.members) == said_by(header), "another block is certified")
        header.check_work()
        check_follows(header, before, self.chain)
        check_named(block["named"], before, self.members(header.height))
        return header

    def past(self, block, certified):
        """The header of a checkpoint in the log of the certified block."""
        fields(block, ("checkpoint", "header", "path"))
        header = header_of(block["header"])
        demand(check_note(block["checkpoint"], self.origin, self.members) == said_by(header), "another block is certified")
        check_in_log(header, block["path"], certified)
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
        for value, needed, maybe in zip(values, (GRANT, KEY), (("commitment", "custody"), ())):
            if value is not None:
                fields(value, needed, maybe)
                demand(value["status"] in ("active", "revoked"), "not a status")
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
    payload = open_jws(proof["transaction"], "hbc-tx+jws", author)
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
    return payload, author, header


def opened(domain, opening):
    fields(opening, ("body", "salt"))
    return H(domain, unhex(opening["salt"], 32, "salt"), canonical(opening["body"]))


def check_receipt(document, payload):
    fields(document, ("anchor", "format", "index", "path", "receipt"))
    demand(payload["type"] == "access.receipts", "not access.receipts")
    start = leaf(opened("hbc/receipt/v1", document["receipt"]))
    root, index = unhex(payload["root"], 32, "root"), number(document["index"], "index")
    check_inclusion(start, index, payload["count"], document["path"], root, "receipt")


def check_record(document, payload):
    fields(document, ("anchor", "format", "index", "path", "record", "segment"))
    demand(payload["type"] == "record.anchor", "not record.anchor")
    record = document["record"]
    fields(record, ("encrypted", "id", "length", "offset", "received", "salt", "version"))
    at = number(document["segment"], "segment")
    demand(at < len(payload["segments"]), "no such segment")
    segment = payload["segments"][at]
    demand(record["offset"] + record["length"] <= segment["bytes"], "the record ends after its segment")
    parts = [unhex(record["salt"], 32, "salt"), record["id"].encode(), u32(record["version"])]
    parts += [unhex(record[part], 32, part) for part in ("received", "encrypted")]
    commitment = H("hbc/record/v1", *parts, u64(record["offset"]), u64(record["length"]))
    root, index = unhex(segment["root"], 32, "root"), number(document["index"], "index")
    check_inclusion(leaf(commitment), index, segment["records"], document["path"], root, "record")


def unix_ms(text):
    """A time as bodies have it (section 2) in Unix milliseconds."""
    demand(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), "not a time")
    since = datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return since // timedelta(milliseconds=1)


def check_limits(limits, scope, header):
    fields(limits, (), ("actions", "categories", "from_ms", "future_records", "purposes", "sensitivities", "until_ms"))
    for part in ("actions", "categories", "purposes", "sensitivities"):
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
    demand(data.endswith(b"\n"), "the file does not end with a line feed")
    document = decode(data[:-1])
    demand(isinstance(document, dict), "not an object")
    kind = document.get("format")
    bare = {k: v for k, v in document.items() if k != "format"}
    if kind in LEDGER:
        return LEDGER[kind](bare, genesis)
    if kind == "hbc-proof-transaction/v1":
        return told(*check_transaction(bare, genesis))
    demand("anchor" in document, "no anchor")
    payload, author, header = check_transaction(document["anchor"], genesis)
    if kind == "hbc-proof-receipt/v1":
        check_receipt(document, payload)
    elif kind == "hbc-proof-record/v1":
        check_record(document, payload)
    elif kind == "hbc-proof-consent/v1":
        check_consent(document, payload, author, header)
    else:
        raise Refused("unknown format")
    return told(payload, author, header)


def told(payload, author, header):
    return f"{payload['type']} by {sha(author).hex()} in block {header.height}, time_ms {header.time_ms}"


LEDGER = {
    "hbc-proof-consistency/v1": check_consistency,
    "hbc-proof-state/v1": check_entries,
    "hbc-proof-anchors/v1": check_anchors,
}
