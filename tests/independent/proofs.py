"""Proof documents. Section 8 of docs/FORMATS.md."""
import collections

from blocks import *
from chain import Transaction, check_genesis, distinct
from shapes import *
from statements import *


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

    def check_checkpoint(self, block, header):
        certified = check_note(block["checkpoint"], self.origin, self.members)
        demand(certified == said_by(header), "another block is certified")

    def certified(self, block):
        """The header of a certified block, which lies after every change so far."""
        fields(block, ("before", "checkpoint", "header", "named"))
        header, before = header_of(block["header"]), header_of(block["before"])
        demand(header.height > self.sets[-1][0], "the checkpoint is not after the last change of members")
        self.check_checkpoint(block, header)
        header.check_work()
        check_follows(header, before, self.chain)
        check_named(block["named"], before, self.members(header.height))
        self.is_one_chain(before, header)
        return header

    def past(self, block, certified):
        """The header of a checkpoint in the log of the certified block."""
        fields(block, ("checkpoint", "header", "path"))
        header = header_of(block["header"])
        self.check_checkpoint(block, header)
        check_in_log(header, block["path"], certified)
        self.is_one_chain(header)
        return header


def check_in_log(header, path, certified):
    if header.hash == certified.hash:
        demand(path == [], "the certified block needs no path")
    else:
        demand(header.height < certified.height, "the block is after the checkpoint")
        size, root = certified.log_size, certified.log_root
        check_inclusion(leaf(header.data), header.log_size, size, path, root, "block header")


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


def check_membership(proof, pinned):
    header, roots = check_state(proof, pinned)
    entries = proof["entries"]
    demand([entry["kind"] for entry in entries] == ["affiliation", "staff", "staff"], "not a member's three entries")
    values = [check_entry(entry, roots[0]) for entry in entries]
    demand(None not in values, "one of the three entries is not there")
    organisation, key = entries[0]["id"].split("/")
    demand([entry["id"] for entry in entries[1:]] == [key, organisation], "profiles of others")
    kinds = {"member": "member", "person": "staff", "organisation": "staff"}
    bodies = []
    for (part, kind), value in zip(kinds.items(), values):
        bodies.append(check_opened(kind, proof[part], value["commitment"]))
    member, *profiles = bodies
    agencies = [member["agency"], member["organisation"]]
    demand([profile["agency"] for profile in profiles] == agencies, "the membership is of other agencies")
    acts = "acts" if all(value["status"] == "active" for value in values) else "does not act"
    return f"{agencies[0]} at height {header.height}: {acts} for {agencies[1]} as {member['function']}"


def check_numbers(proof, pinned):
    _, roots = check_state(proof, pinned)
    author, service = unhex(proof["author"], 32, "author"), proof["service"]
    demand((service["kind"], service["id"]) == ("service", sha(author).hex()), "another entry than the author's")
    value = check_entry(service, roots[0])
    demand(value is not None and value["status"] == "active", "the author is no service, or not any more")
    demand(value["role"] == "access-policy", "the author is not access-policy")
    said = read_statement(proof["statement"], "hbc-numbers+jws", author, proof["chain"])
    gaps = "; ".join(in_words(one) for one in missing(said, proof["held"]))
    return f"numbers of {said['patient']}, stated at {said['iat']} ms: missing {gaps or 'none'}"


def in_words(one):
    """Labels and their numbers in words."""
    spans = (str(first) if first == last else f"{first}-{last}" for first, last in one["numbers"])
    return f"{one['labels']['category']}/{one['labels']['sensitivity']} {', '.join(spans)}"


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


class Final(collections.namedtuple("Final", "payload author header")):
    """A transaction that a document shows to be final in the block of this header."""

    def __str__(self):
        author = sha(self.author).hex()
        return f"{self.payload['type']} by {author} in block {self.header.height}, time_ms {self.header.time_ms}"


ANCHOR = ("author", "block", "index", "path", "transaction")


def check_final(anchor, ground, certified):
    author = unhex(anchor["author"], 32, "author")
    open_jws(anchor["transaction"], "hbc-tx+jws", author)
    payload = Transaction(anchor["transaction"].encode()).payload
    demand(payload["chain"] == ground.chain.hash.hex(), "the transaction is for another chain")
    index = number(anchor["index"], "index")
    start = leaf(anchor["transaction"].encode())
    check_inclusion(start, index, certified.log_size, anchor["path"], certified.log_root, "transaction")

    fields(anchor["block"], ("header", "parent", "path"))
    header, parent = header_of(anchor["block"]["header"]), header_of(anchor["block"]["parent"])
    header.check_work()
    check_follows(header, parent, ground.chain)
    demand(parent.log_size < index < header.log_size, "the transaction is in another block")
    check_in_log(header, anchor["block"]["path"], certified)
    ground.is_one_chain(header, parent)
    return Final(payload, author, header)


def check_transaction(proof, pinned):
    fields(proof, (*ANCHOR, "certified", "chain"), ("genesis", "sets"))
    ground = Ground(proof, pinned)
    return check_final(proof, ground, ground.certified(proof["certified"]))


def check_bundle(document, pinned):
    ground = Ground(document, pinned)
    certified = ground.certified(document["certified"])
    anchors, proofs = document["anchors"], document["proofs"]
    demand(anchors and proofs, "an empty bundle")
    ascending([anchor["index"] for anchor in anchors], "transactions")
    final = [check_final(anchor, ground, certified) for anchor in anchors]
    places = {proof["anchor"] for proof in proofs}
    demand(places == set(range(len(final))), "a transaction without a proof, or a proof without its transaction")
    distinct([canonical(proof) for proof in proofs], "proofs")
    for proof in proofs:
        COVERED[proof["format"]](proof, final[proof["anchor"]])
    return f"{len(proofs)} proofs: " + "; ".join(str(final[proof["anchor"]]) for proof in proofs)


DOMAINS = {
    "consent": "hbc/consent-body/v1", "receipt": "hbc/receipt/v1", "staff": "hbc/staff/v1", "member": "hbc/member/v1",
    "order": "hbc/order/v1", "erasure": "hbc/erase/v1",
}


def committed(kind, opening):
    """The commitment to a body of this kind."""
    fields(opening, ("body", "salt"))
    BODIES[kind](opening["body"])
    return H(DOMAINS[kind], unhex(opening["salt"], 32, "salt"), canonical(opening["body"]))


def check_opened(kind, opening, commitment):
    demand(committed(kind, opening).hex() == commitment, "the body does not open the commitment")
    return opening["body"]


OPENED = {
    "identity.staff": "staff", "identity.member": "member", "operator.order": "order", "record.erase": "erasure",
}


def check_opening(document, final):
    payload, opening = final.payload, document["opened"]
    if payload["type"] == "statistics.release":
        fields(opening, ("body",))
        BODIES["release"](opening["body"])
        demand(sha(canonical(opening["body"])).hex() == payload["digest"], "the body has another digest")
        alike(opening["body"], payload, "chain", "period")
    else:
        demand(payload["type"] in OPENED, "nothing that can be opened")
        body = check_opened(OPENED[payload["type"]], opening, payload["commitment"])
        if payload["type"] == "operator.order":
            alike(body, payload, "kind", "subject")


def alike(body, payload, *names):
    for name in names:
        demand(body[name] == payload[name], f"the body has another {name} than the transaction")


def check_receipt(document, final):
    payload = final.payload
    demand(payload["type"] == "access.receipts", "not access.receipts")
    start = leaf(committed("receipt", document["receipt"]))
    root, index = unhex(payload["root"], 32, "root"), number(document["index"], "index")
    check_inclusion(start, index, payload["count"], document["path"], root, "receipt")


def check_record(document, final):
    payload = final.payload
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


def check_consent(document, final):
    payload = final.payload
    demand(payload["type"] in ("consent.grant", "consent.alter"), "not a consent")
    demand(payload["key"] == sha(final.author).hex(), "not signed by its key")
    body = check_opened("consent", document["consent"], payload["commitment"])
    alike(body, payload, "grant")
    limits, signer = [], unhex(document["root"], 32, "root")
    if "delegate" in document:
        delegate = document["delegate"]
        delegation = read_statement(delegate["certificate"], "hbc-delegate-cert+jws", signer, payload["chain"])
        signer = unhex(delegate["root"], 32, "root")
        demand(delegation["delegate"] == sha(signer).hex(), "another delegate")
        limits += [delegation["limits"], {"until_ms": delegation["until_ms"]}]
    certificate = read_statement(document["certificate"], "hbc-consent-cert+jws", signer, payload["chain"])
    demand(certificate["key"] == payload["key"], "the certificate is of another key")
    demand(certificate["grantee"] == body["grantee"], "the certificate is for another grantee")
    for each in [*limits, certificate["limits"]]:
        check_limits(each, body["scope"], final.header.time_ms)


COVERED = {
    "hbc-proof-receipt/v1": check_receipt,
    "hbc-proof-record/v1": check_record,
    "hbc-proof-consent/v1": check_consent,
    "hbc-proof-opening/v1": check_opening,
}


def covered(check):
    """A check of what a transaction covers, as one of the whole document."""
    def whole_check(document, pinned):
        final = check_transaction(document["anchor"], pinned)
        check(document, final)
        return final

    return whole_check


CHECKS = {
    "hbc-proof-transaction/v1": check_transaction,
    **{kind: covered(check) for kind, check in COVERED.items()},
    "hbc-proof-bundle/v1": check_bundle,
    "hbc-proof-consistency/v1": check_consistency,
    "hbc-proof-state/v1": check_entries,
    "hbc-proof-membership/v1": check_membership,
    "hbc-proof-numbers/v1": check_numbers,
    "hbc-proof-anchors/v1": check_anchors,
}


def verify(data, genesis):
    """Section 8.2: what has not the form of a document says nothing; what has, holds or is false."""
    document = read_document(data)
    kind = document.pop("format")
    return str(CHECKS[kind](document, genesis))
