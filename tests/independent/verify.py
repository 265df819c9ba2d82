#!/usr/bin/env python3
"""A second verifier of HBC proof documents, written from docs/FORMATS.md alone, with nothing but Python's standard
library: so that what the document says and what the project does are compared by something that shares no code with it.

  verify.py GENESIS.json FILE    check a proof document; exit 0 if it holds, 1 with the reason if not
  verify.py --self-test          check the project's vectors, and that no changed bit of them is accepted
"""
import base64
import hashlib
import json
import pathlib
import re
import sys


class Refused(Exception):
    pass


def demand(holds, reason):
    if not holds:
        raise Refused(reason)


def sha(data):
    return hashlib.sha256(data).digest()


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


# Ed25519, RFC 8032, strict (slow and simple).
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover(y, sign):
    demand(y < P, "a point is not canonical")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    demand((x * x - square) % P == 0, "not a point of the curve")
    demand(x or not sign, "a point is not canonical")
    return x if x & 1 == sign else P - x


def point(data):
    y = int.from_bytes(data, "little")
    y, sign = y & (2**255 - 1), y >> 255
    x = recover(y, sign)
    return (x, y, 1, x * y % P)


def add(a, b):
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(scalar, p):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, p)
        p, scalar = add(p, p), scalar >> 1
    return total


def same(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
KNOWN = {}


def check_signature(key, text, signature, what):
    known = (key, text, signature)
    if known not in KNOWN:
        KNOWN[known] = fits(key, text, signature)
    demand(KNOWN[known], f"the signature of {what} does not fit")


def fits(key, text, signature):
    try:
        a, r = point(key), point(signature[:32])
    except Refused:
        return False
    s = int.from_bytes(signature[32:], "little")
    zero = (0, 1, 1, 0)
    if len(signature) != 64 or s >= L or same(times(8, a), zero) or same(times(8, r), zero):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % L
    return same(times(s, BASE), add(r, times(h, a)))


# Section 1: canonical JSON.
def escape(text):
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    demand("\0" not in text, "NUL in a string")
    return '"' + "".join(short.get(ord(c)) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def encode(value, depth=1, key=None):
    demand(depth <= 64, "nested too deeply")
    if value is None:
        demand(key == "prev", "null is allowed only for prev")
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        demand(abs(value) < 2**53, "an integer is too large")
        return str(value)
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return "[" + ",".join(encode(item, depth + 1) for item in value) + "]"
    demand(isinstance(value, dict), "not an integer")
    for name in value:
        demand(re.fullmatch(r'[ !#-\[\]-~]*', name), "a key is not plain ASCII")
    items = (escape(name) + ":" + encode(value[name], depth + 1, name) for name in sorted(value))
    return "{" + ",".join(items) + "}"


def canonical(value):
    return encode(value).encode()


def decode(data):
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from error
    try:
        demand(canonical(value) == data, "not in canonical form")
    except UnicodeEncodeError as error:
        raise Refused("a lone surrogate") from error
    return value


def fields(value, needed, optional=()):
    demand(isinstance(value, dict), "not an object")
    demand(set(needed) <= set(value) <= set(needed) | set(optional), f"fields are not {needed}")


def unhex(text, length, what):
    demand(isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text), f"{what} is not hex")
    return bytes.fromhex(text)


def number(value, what):
    demand(isinstance(value, int) and not isinstance(value, bool) and value >= 0, f"{what} is not a number")
    return value


# Sections 2 and 3: hashes and trees.
def H(domain, *parts):
    return sha(domain.encode() + b"\0" + b"".join(u32(len(part)) + part for part in parts))


def leaf(data):
    return sha(b"\0" + data)


def node(left, right):
    return sha(b"\1" + left + right)


def tree(leaves):
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree(leaves[:half]), tree(leaves[half:]))


def check_inclusion(start, index, size, path, root, what):
    demand(isinstance(path, list) and index < size, f"{what}: outside the tree")
    path = [unhex(item, 32, "a path") for item in path]

    def climb(index, size, path):
        if size == 1:
            demand(not path, f"{what}: the path is too long")
            return start
        demand(path, f"{what}: the path is too short")
        half = 1 << (size - 1).bit_length() - 1
        if index < half:
            return node(climb(index, half, path[:-1]), path[-1])
        return node(path[-1], climb(index - half, size - half, path[:-1]))

    demand(climb(index, size, path) == root, f"{what}: the path leads to another root")


# Section 4: JWS.
def unbase64url(text):
    demand(re.fullmatch(r"[A-Za-z0-9_-]*", text), "not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise Refused("not base64url") from error
    demand(base64.urlsafe_b64encode(data).decode().rstrip("=") == text, "not strict base64url")
    return data


def open_jws(text, typ, key):
    demand(isinstance(text, str) and text.count(".") == 2, "not a compact JWS")
    header, payload, signature = text.split(".")
    expected = f'{{"alg":"EdDSA","kid":"{sha(key).hex()}","typ":"{typ}"}}'
    demand(unbase64url(header) == expected.encode(), f"not signed by that key as {typ}")
    signature = unbase64url(signature)
    demand(len(signature) == 64, "a signature has 64 bytes")
    check_signature(key, f"{header}.{payload}".encode(), signature, typ)
    return decode(unbase64url(payload))


# Section 6: headers, genesis, state.
class Header:
    def __init__(self, data):
        demand(len(data) == 180 and data[:8] == b"HBC1\0\1\0\0", "not a header")
        self.data, self.hash = data, sha(data)
        self.height, self.prev = int.from_bytes(data[8:16], "big"), data[16:48]
        self.log_root, self.log_size = data[80:112], int.from_bytes(data[112:120], "big")
        self.state_root, self.time_ms = data[120:152], int.from_bytes(data[152:160], "big")
        length, mantissa = data[160], int.from_bytes(data[161:164], "big")
        demand(0x8000 <= mantissa < 0x800000 and length >= 3, "not a minimal target")
        self.target = mantissa * 256 ** (length - 3)
        demand(self.target < 2**256, "not a target")

    def check_work(self):
        demand(int.from_bytes(self.hash, "big") <= self.target, "the proof of work is missing")


def header_of(text):
    return Header(unhex(text, 180, "a header"))


def state_key(kind, name):
    return H("hbc/state-key/v1", kind.encode(), name.encode())


def state_leaf(key, value):
    return H("hbc/leaf/v1", key, sha(canonical(value)))


def bit(key, depth):
    return key[depth // 8] >> (7 - depth % 8) & 1


def map_root(leaves, depth=0):
    """`leaves`: (key, leaf) pairs."""
    if not leaves:
        return bytes(32)
    if len(leaves) == 1:
        return leaves[0][1]
    halves = ([pair for pair in leaves if bit(pair[0], depth) == side] for side in (0, 1))
    return H("hbc/node/v1", *(map_root(half, depth + 1) for half in halves))


def check_names(members):
    demand(isinstance(members, list) and members, "no members")
    for member in members:
        fields(member, ("key", "name"))
        demand(re.fullmatch("[a-z0-9][a-z0-9-]{0,62}", member["name"]), "not a name")
    names, keys = [m["name"] for m in members], [unhex(m["key"], 32, "a key") for m in members]
    demand(names == sorted(set(names)) and len(set(keys)) == len(keys), "members are not in order or not unique")


def chain_of(genesis):
    fields(genesis, ("members", "operators", "origin", "parameters", "services", "time_ms"))
    check_names(genesis["members"])
    entries = [(kind, "", genesis[kind]) for kind in ("members", "operators", "parameters")]
    for service in genesis["services"]:
        kid = sha(unhex(service["key"], 32, "a key")).hex()
        entries.append(("service", kid, {"pub": service["key"], "role": service["role"], "status": "active"}))
    leaves = []
    for kind, name, value in entries:
        key = state_key(kind, name)
        leaves.append((key, state_leaf(key, value)))
    nothing = sha(b"")
    state = H("hbc/state/v1", map_root(leaves), nothing, nothing)
    target = u32(genesis["parameters"]["target"])
    header = b"HBC1\0\1\0\0" + u64(0) + sha(canonical(genesis)) + nothing + nothing + u64(0)
    return Header(header + state + u64(genesis["time_ms"]) + target + bytes(16))


def fold(key, path, found):
    path = [unhex(item, 32, "a path") for item in path]
    demand(len(path) <= 256 and (not path or path[-1] != bytes(32)), "not a map proof")
    for depth, sibling in reversed(list(enumerate(path))):
        found = H("hbc/node/v1", *((sibling, found) if bit(key, depth) else (found, sibling)))
    return found


def check_entry(entry, root):
    """The value that the map has, or None if it is shown to have none."""
    fields(entry, ("id", "kind", "proof"), ("value",))
    demand(entry["kind"] in KINDS, "not a kind of entry")
    demand(id_fits(entry["kind"], entry["id"]), f"no {entry['kind']} entry has an id like this")
    key, proof = state_key(entry["kind"], entry["id"]), entry["proof"]
    fields(proof, ("path",), ("other",))
    if "value" in entry:
        demand("other" not in proof, "a proof of presence names no other entry")
        end = state_leaf(key, entry["value"])
    elif "other" in proof:
        fields(proof["other"], ("key", "value"))
        other = unhex(proof["other"]["key"], 32, "a key")
        shared = all(bit(other, depth) == bit(key, depth) for depth in range(len(proof["path"])))
        demand(other != key and shared, "the other entry does not stand there")
        end = H("hbc/leaf/v1", other, unhex(proof["other"]["value"], 32, "a value"))
    else:
        end = bytes(32)
    demand(fold(key, proof["path"], end) == root, f"the {entry['kind']} entry is not what the certified state says")
    return entry.get("value")


# Section 6: the R-tree.
RUN = 4096


def i32(n):
    demand(type(n) is int and -(2**31) <= n < 2**31, "not a day")
    return n.to_bytes(4, "big", signed=True)


def anchor_of(value):
    fields(value, ("day0", "day1", "height", "txid"))
    height, txid = number(value["height"], "height"), unhex(value["txid"], 32, "a txid")
    return i32(value["day0"]) + i32(value["day1"]) + u64(height) + txid


def box(parts):
    lows, highs = ([part[at] for part in parts] for at in (0, 1))
    starts, ends = ([part[at] for part in parts] for at in (2, 3))
    return min(lows), max(highs), min(starts), max(ends)


def meets(query, bounds):
    return bounds[0] <= query["to"] and bounds[1] >= query["from"] and bounds[2] <= query["as_of"]


def box_of(value):
    fields(value, ("day0", "day1", "height0", "height1"))
    i32(value["day0"]), i32(value["day1"])
    return value["day0"], value["day1"], number(value["height0"], "height"), number(value["height1"], "height")


def check_node(child, level, query, found):
    """(box, hash) of a page's node; level 2 is its top node, level 0 a bottom node."""
    demand(isinstance(child, dict) and len(child) == 1, "not a node")
    if "closed" in child:
        fields(child["closed"], ("bounds", "hash"))
        bounds, digest = box_of(child["closed"]["bounds"]), unhex(child["closed"]["hash"], 32, "a hash")
        demand(not meets(query, bounds), "a node is closed that the question meets")
        return bounds, digest
    demand("open" in child and isinstance(child["open"], dict), "not a node")
    inside = child["open"]
    if level == 0:
        fields(inside, ("anchors",))
        anchors = inside["anchors"]
        demand(isinstance(anchors, list) and len(anchors) == 16, "a bottom node has 16 anchors")
        digest = H("hbc/rtree-leaf/v1", b"".join(anchor_of(anchor) for anchor in anchors))
        bounds = box([(a["day0"], a["day1"], a["height"], a["height"]) for a in anchors])
        found.extend(anchors)
    else:
        fields(inside, ("children",))
        demand(isinstance(inside["children"], list) and len(inside["children"]) == 16, "a node has 16 children")
        children = [check_node(below, level - 1, query, found) for below in inside["children"]]
        written = (i32(b[0]) + i32(b[1]) + u64(b[2]) + u64(b[3]) + digest for b, digest in children)
        digest = H("hbc/rtree-node/v1", b"".join(written))
        bounds = box([bounds for bounds, _ in children])
    demand(meets(query, bounds), "a node is open that the question does not meet")
    return bounds, digest


def over_runs(runs, tail):
    """The root over all anchors from the roots over the runs and the leaves after them."""
    if not runs:
        return tree(tail)
    size, largest = len(runs) * RUN + len(tail), 1
    if len(runs) == 1 and not tail:
        return runs[0]
    while largest * 2 < size:
        largest *= 2
    if largest < RUN:
        raise Refused("a run is a complete subtree")
    left = largest // RUN
    right = over_runs(runs[left:], tail)
    return sha(b"\1" + over_runs(runs[:left], []) + right)


def check_answer(answer, query, anchors, pages):
    fields(answer, ("pages", "tail"))
    tail = [anchor_of(anchor) for anchor in answer["tail"]]
    demand(len(tail) < RUN, "the tail is longer than a page")
    found, leaves, runs = [], [], []
    for page in answer["pages"]:
        fields(page, ("page", "run"))
        bounds, top = check_node(page["page"], 2, query, found)
        runs.append(unhex(page["run"], 32, "a run"))
        leaves.append(leaf(i32(bounds[0]) + i32(bounds[1]) + u64(bounds[2]) + u64(bounds[3]) + top + runs[-1]))
    demand(tree(leaves) == pages, "the pages lead to another root")
    demand(over_runs(runs, [leaf(anchor) for anchor in tail]) == anchors, "the anchors lead to another root")
    found += answer["tail"]
    return [a for a in found if meets(query, (a["day0"], a["day1"], a["height"]))]


def id_fits(kind, name):
    """Whether an entry of this kind can have this id."""
    digest, short = "[0-9a-f]{64}", "[a-z0-9][a-z0-9-]{0,62}"
    parameter = "approvals|heartbeat_ms|max_block_bytes|min_spacing_ms|target"
    subject = f"(member|operator):{short}|parameter:({parameter})|(service|staff):{digest}"
    forms = {
        "members": "", "operators": "", "parameters": "", "grant": f"{digest}/grt-[0-9a-f]{{32}}",
        "changes": subject, "ballots": f"{subject}|event:{digest}",
    }
    return isinstance(name, str) and re.fullmatch(forms.get(kind, digest), name) is not None


KINDS = "members operators parameters service staff key grant segment receipts erased release changes ballots event".split()
GRANT, KEY = ("seq", "status", "txid"), ("prev", "pub", "seq", "status", "txid")


# Section 7: checkpoints.
def check_note(note, origin, members_at):
    """The certified (size, root, height, block hash). `members_at` answers the members of a height."""
    demand(isinstance(note, str) and note.count("\n\n") == 1, "not a signed note")
    body, lines = note.split("\n\n")
    body += "\n"
    match = re.fullmatch(
        r"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n"
        r"hbc-block (0|[1-9][0-9]*) (?:0|[1-9][0-9]*) ([0-9a-f]{64})\n",
        body,
    )
    demand(match and match[1] == origin, "not a checkpoint of this log")
    root = base64.b64decode(match[3])
    demand(base64.b64encode(root).decode() == match[3], "not strict base64")
    demand(lines.endswith("\n"), "a note ends with a line feed")
    members = members_at(int(match[4]))
    keys, last = {member["name"]: bytes.fromhex(member["key"]) for member in members}, ""
    signed = lines[:-1].split("\n")
    for line in signed:
        match_line = re.fullmatch(r"— ([^ ]+)/([^ /]+) ([A-Za-z0-9+/=]+)", line)
        demand(match_line and match_line[1] == origin, "not a signature line")
        name = match_line[2]
        demand(name in keys, f"{name} is no member")
        demand(name > last, "signatures are not in order")
        last = name
        data = base64.b64decode(match_line[3])
        demand(base64.b64encode(data).decode() == match_line[3] and len(data) == 68, "not a signature")
        key_id = sha(f"{origin}/{name}".encode() + b"\n\1" + keys[name])[:4]
        demand(data[:4] == key_id, f"the key id of {name} is another")
        check_signature(keys[name], body.encode(), data[4:], name)
    demand(3 * len(signed) > 2 * len(members), f"{len(signed)} of {len(members)} members are too few")
    return int(match[2]), root, int(match[4]), bytes.fromhex(match[5])


# Section 8: proofs.
def check_set(change, members, origin, above):
    fields(change, ("anchors", "checkpoint", "header", "map", "members", "pages", "proof"))
    header = header_of(change["header"])
    demand(header.height > above, "changes of members are not in order")
    demand(check_note(change["checkpoint"], origin, lambda _: members)[3] == header.hash, "another block is certified")
    parts = [unhex(change[part], 32, part) for part in ("map", "anchors", "pages")]
    demand(header.state_root == H("hbc/state/v1", *parts), "the header has another state root")
    check_names(change["members"])
    entry = {"id": "", "kind": "members", "proof": change["proof"], "value": change["members"]}
    check_entry(entry, parts[0])
    return change["members"], header.height


def check_ground(proof, pinned):
    """Steps 1 and 2: (header 0, origin, members by height, height of the last change)."""
    genesis = proof.get("genesis", pinned)
    chain = chain_of(pinned)
    demand(chain_of(genesis).hash == chain.hash, "another chain")
    demand(unhex(proof["chain"], 32, "chain") == chain.hash, "another chain")
    origin = f"{pinned['origin']}/hbc/{chain.hash.hex()[:16]}"
    sets, changed = [(0, pinned["members"])], 0
    demand(proof.get("sets") != [], "an empty list of changes")
    for change in proof.get("sets", []):
        members, changed = check_set(change, sets[-1][1], origin, changed)
        sets.append((changed, members))

    def members_at(height):
        return [members for after, members in sets if after < height or after == 0][-1]

    return chain, origin, members_at, changed


def check_state(proof, pinned):
    """The document's block: its header and the roots of its map, anchors and pages."""
    _, origin, members_at, changed = check_ground(proof, pinned)
    state = proof["state"]
    fields(state, ("anchors", "checkpoint", "header", "map", "pages"))
    header = header_of(state["header"])
    header.check_work()
    certified = check_note(state["checkpoint"], origin, members_at)
    said = (header.log_size, header.log_root, header.height, header.hash)
    demand(certified == said, "the checkpoint is of another block")
    demand(header.height > changed, "the checkpoint is not after the last change of members")
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
    fields(proof, ("chain", "from", "path", "to"), ("genesis", "sets"))
    _, origin, members_at, changed = check_ground(proof, pinned)
    old, new = (check_note(proof[end], origin, members_at) for end in ("from", "to"))
    demand(new[2] > changed, "the checkpoint is not after the last change of members")
    path = [unhex(item, 32, "a path") for item in proof["path"]]
    if old[2] == new[2]:
        demand(old == new and not path, "two blocks of one height")
    else:
        demand(old[2] < new[2] and 0 < old[0] < new[0], "not an earlier and a later log")
        consistent(old[0], new[0], path, old[1], new[1])
    return f"the log only grew from height {old[2]} to height {new[2]}"


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
    needed = ("author", "block", "chain", "checkpoint", "index", "path", "transaction")
    fields(proof, needed, ("genesis", "sets"))
    chain, origin, members_at, changed = check_ground(proof, pinned)
    size, root, height, block = check_note(proof["checkpoint"], origin, members_at)
    demand(height > changed, "the checkpoint is not after the last change of members")

    author = unhex(proof["author"], 32, "author")
    payload = open_jws(proof["transaction"], "hbc-tx+jws", author)
    demand(payload.get("chain") == proof["chain"], "the transaction is for another chain")
    index = number(proof["index"], "index")
    check_inclusion(leaf(proof["transaction"].encode()), index, size, proof["path"], root, "transaction")

    fields(proof["block"], ("header", "parent", "path"))
    header, parent = header_of(proof["block"]["header"]), header_of(proof["block"]["parent"])
    header.check_work()
    demand(header.prev == parent.hash and header.height == parent.height + 1, "another parent")
    demand((parent.height == 0) == (parent.hash == chain.hash), "another first block")
    demand(parent.log_size < index < header.log_size, "the transaction is in another block")
    if header.hash == block:
        certified = (size, root, height) == (header.log_size, header.log_root, header.height)
        demand(certified and proof["block"]["path"] == [], "the checkpoint says otherwise")
    else:
        demand(header.height < height, "the block is after the checkpoint")
        path = proof["block"]["path"]
        check_inclusion(leaf(header.data), header.log_size, size, path, root, "block header")
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
    fields(record, ("id", "length", "offset", "received", "salt", "sealed", "version"))
    at = number(document["segment"], "segment")
    demand(at < len(payload["segments"]), "no such segment")
    segment = payload["segments"][at]
    demand(record["offset"] + record["length"] <= segment["bytes"], "the record ends after its segment")
    parts = [unhex(record["salt"], 32, "salt"), record["id"].encode(), u32(record["version"])]
    parts += [unhex(record[part], 32, part) for part in ("received", "sealed")]
    commitment = H("hbc/record/v1", *parts, u64(record["offset"]), u64(record["length"]))
    root, index = unhex(segment["root"], 32, "root"), number(document["index"], "index")
    check_inclusion(leaf(commitment), index, segment["records"], document["path"], root, "record")


def check_consent(document, payload, author):
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
        check_consent(document, payload, author)
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


def self_test():
    here = pathlib.Path(__file__).resolve().parents[2]
    data = here / "shared/types/tests/data"
    text = (here / "docs/FORMATS.md").read_text().split("## 9. Vectors")[1].split("```")[1]
    stated = dict(line.split(" = ", 1) for line in text.strip().splitlines())
    genesis = decode((data / "genesis.json").read_bytes().rstrip(b"\n"))
    chain, salt, nothing = chain_of(genesis), bytes([7]) * 32, sha(b"")
    place = state_key("service", "auth")
    lone = state_leaf(place, {})
    events = [state_key("event", name) for name in "abc"]
    record = [salt, b"rec-000102030405060708090a0b0c0d0e0f", u32(1), sha(b"received"), sha(b"sealed")]
    anchor = (-100).to_bytes(4, "big", signed=True) + u32(20000) + u64(7) + sha(b"tx")
    transaction = stated['transaction access.receipts of chain SHA-256("chain") by key 1']
    payload = json.loads(unbase64url(transaction.split(".")[1]))
    computed = {
        'H("hbc/x/v1", "one", "")': H("hbc/x/v1", b"one", b"").hex(),
        "consent commitment of {}": H("hbc/consent-body/v1", salt, b"{}").hex(),
        "receipt commitment of {}": H("hbc/receipt/v1", salt, b"{}").hex(),
        "staff commitment of {}": H("hbc/staff/v1", salt, b"{}").hex(),
        "erasure commitment of {}": H("hbc/erase/v1", salt, b"{}").hex(),
        next(name for name in stated if name.startswith("record commitment")):
            H("hbc/record/v1", *record, u64(4096), u64(512)).hex(),
        "state key of service, auth": place.hex(),
        "state leaf of that key and {}": lone.hex(),
        "state node of that leaf and zero": H("hbc/node/v1", lone, bytes(32)).hex(),
        "state root of that leaf and two empty trees": H("hbc/state/v1", lone, nothing, nothing).hex(),
        "map root of event a, event b, event c, each {}":
            map_root([(key, state_leaf(key, {})) for key in events]).hex(),
        "Merkle root of the leaves 00, 01, 02, 03, 04": tree([leaf(bytes([n])) for n in range(5)]).hex(),
        'leaf hash of the anchor -100, 20000, 7, SHA-256("tx")': leaf(anchor).hex(),
        "its txid": leaf(transaction.encode()).hex(),
        "its ballot": H("hbc/ballot/v1", canonical({**payload, "iat": 0})).hex(),
        "its hash": sha(bytes.fromhex(stated["header"])).hex(),
        "SHA-256(genesis.json)": sha(canonical(genesis)).hex(),
        "header 0": chain.data.hex(),
        "chain id": chain.hash.hex(),
        "origin": f"{genesis['origin']}/hbc/{chain.hash.hex()[:16]}",
        "kid of key 1": sha(bytes.fromhex(genesis["members"][0]["key"])).hex(),
    }
    for name, value in computed.items():
        demand(stated[name] == value, f"vector {name}: {value}")
    first = bytes.fromhex(genesis["members"][0]["key"])
    open_jws(transaction, "hbc-tx+jws", first)
    open_jws(stated["promise of that txid by key 1"], "hbc-promise+jws", first)
    pop = f"hbc/pop/v1\n{sha(b'chain').hex()}\n{stated['kid of key 1']}\n".encode()
    check_signature(first, pop, bytes.fromhex(stated['pop of key 1 for chain SHA-256("chain")']), "pop")
    Header(bytes.fromhex(stated["header"])).check_work()

    documents = {
        "receipt": 23, "consistency": 89, "state": 89, "absence": 89, "anchors": 251,
    }
    for name, step in documents.items():
        file = (data / f"{name}-proof.json").read_bytes()
        said = verify(file, genesis)
        for at in range(0, len(file) * 8, step):
            bad = bytearray(file)
            bad[at // 8] ^= 1 << at % 8
            try:
                other = verify(bytes(bad), genesis)
            except (Refused, KeyError, TypeError, ValueError):
                continue
            # A changed name of what is absent, or another question with the same answer, is another statement.
            demand(name in ("absence", "anchors") and other != said, f"{name}: bit {at} may be changed")
        print(f"{name}: {said}")
    print(f"{len(computed) + 4} vectors agree; no changed bit of a document left its statement as it was")


def main():
    try:
        if sys.argv[1:] == ["--self-test"]:
            return self_test()
        genesis_file, file = map(pathlib.Path, sys.argv[1:])
        genesis = decode(genesis_file.read_bytes().removesuffix(b"\n"))
        said = verify(file.read_bytes(), genesis)
    except (Refused, KeyError, TypeError, ValueError) as error:
        sys.exit(f"refused: {error}")
    print(f"holds: {said}")


if __name__ == "__main__":
    main()
