"""Headers, genesis.json, the state map, the R-tree, signed notes. Sections 6 and 7 of docs/FORMATS.md."""
import base64
import re

from values import *


# Section 6: headers, genesis, state.
class Header:
    def __init__(self, data):
        demand(len(data) == 180 and data[:8] == b"HBC1\0\1\0\0", "not a header")
        self.data, self.hash = data, sha(data)
        self.height, self.prev = int.from_bytes(data[8:16], "big"), data[16:48]
        self.log_root, self.log_size = data[80:112], int.from_bytes(data[112:120], "big")
        self.state_root, self.time_ms = data[120:152], int.from_bytes(data[152:160], "big")
        self.target = target_of(data[160:164])

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
    if "value" in entry:
        check_value(entry["kind"], entry["id"], entry["value"])
    return entry.get("value")


# Section 6: the R-tree.
RUN = 4096


def i32(n):
    demand(type(n) is int and -(2**31) <= n < 2**31, "not a day")
    return n.to_bytes(4, "big", signed=True)


def anchor_of(value):
    fields(value, ("day0", "day1", "height", "segment", "txid"))
    return anchor_leaf(*(value[part] for part in ("day0", "day1", "height", "txid", "segment")))


def anchor_leaf(day0, day1, height, txid, segment):
    """The data of an anchor's leaf, 50 bytes."""
    integer(segment, 0, 2**16 - 1, "segment")
    days, height = i32(day0) + i32(day1), u64(number(height, "height"))
    return days + height + unhex(txid, 32, "a txid") + segment.to_bytes(2, "big")


def box(parts):
    lows, highs = ([part[at] for part in parts] for at in (0, 1))
    starts, ends = ([part[at] for part in parts] for at in (2, 3))
    return min(lows), max(highs), min(starts), max(ends)


def seal(run):
    """The data of a page's leaf: its box, the hash of its top node, the root over its run."""
    def split(anchor):
        return (*(int.from_bytes(anchor[at : at + 4], "big", signed=True) for at in (0, 4)), anchor[8:])

    def sliced(items, size):
        return [items[at : at + size] for at in range(0, len(items), size)]

    packed = sorted(run, key=lambda anchor: (sum(split(anchor)[:2]), split(anchor)))
    packed = [sorted(part, key=lambda anchor: (anchor[8:16], split(anchor))) for part in sliced(packed, 256)]
    nodes = []
    for part in sliced(sum(packed, []), 16):
        bounds = box([(*split(a)[:2], *[int.from_bytes(a[8:16], "big")] * 2) for a in part])
        nodes.append((bounds, H("hbc/rtree-leaf/v1", b"".join(part))))
    while len(nodes) > 1:
        nodes = [inner(part) for part in sliced(nodes, 16)]
    bounds, top = nodes[0]
    return written(bounds) + top + tree([leaf(anchor) for anchor in run])


def written(bounds):
    return i32(bounds[0]) + i32(bounds[1]) + u64(bounds[2]) + u64(bounds[3])


def inner(children):
    digest = H("hbc/rtree-node/v1", b"".join(written(bounds) + below for bounds, below in children))
    return box([bounds for bounds, _ in children]), digest


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
        bounds, digest = inner(children)
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
        leaves.append(leaf(written(bounds) + top + runs[-1]))
    demand(tree(leaves) == pages, "the pages lead to another root")
    demand(over_runs(runs, [leaf(anchor) for anchor in tail]) == anchors, "the anchors lead to another root")
    found += answer["tail"]
    return [a for a in found if meets(query, (a["day0"], a["day1"], a["height"]))]


def id_fits(kind, name):
    """Whether an entry of this kind can have this id."""
    digest, short = "[0-9a-f]{64}", "[a-z0-9][a-z0-9-]{0,62}"
    parameter = "approvals|heartbeat_ms|max_block_bytes|min_spacing_ms|target"
    subject = f"(member|operator):{short}|parameter:({parameter})|(service|staff):{digest}|order:({ORDERS}):{digest}"
    forms = {
        "members": "", "operators": "", "parameters": "", "grant": f"{digest}/grt-[0-9a-f]{{32}}",
        "affiliation": f"{digest}/{digest}", "order": f"({ORDERS})/{digest}",
        "changes": subject, "ballots": f"{subject}|event:{short}",
    }
    return isinstance(name, str) and re.fullmatch(forms.get(kind, digest), name) is not None


# Section 7: checkpoints.
BODY = (
    r"([a-z0-9./-]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n"
    r"hbc-block (0|[1-9][0-9]*) (?:0|[1-9][0-9]*) ([0-9a-f]{64})\n"
)


def check_note(note, origin, members_at):
    """The certified (size, root, height, block hash). `members_at` answers the members of a height."""
    demand(isinstance(note, str) and note.count("\n\n") == 1, "not a signed note")
    body, lines = note.split("\n\n")
    body += "\n"
    match = re.fullmatch(BODY, body)
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


def known_lines(note, origin, members):
    """A lone note with the lines of these members' keys: others, such as witnesses, are passed over."""
    body, _, lines = note.partition("\n\n")
    try:
        demand(lines.endswith("\n"), "not a signed note")
        demand(not re.search("[\0-\x09\x0b-\x1f]", note), "a control character")
        signatures = [signature_line(line) for line in lines[:-1].split("\n")]
        match = re.fullmatch(BODY, f"{body}\n")
        demand(match, "not a checkpoint")
        demand(base64.b64encode(base64.b64decode(match[3])).decode() == match[3], "not strict base64")
    except Refused as error:
        raise Unreadable(str(error)) from error
    known = []
    for line, name_of, data in signatures:
        for member in members:
            name = f"{origin}/{member['name']}"
            if (name_of, data[:4]) == (name, sha(name.encode() + b"\n\1" + bytes.fromhex(member["key"]))[:4]):
                if len(data) != 68:
                    raise Unreadable("a line of a known member that is no signature")
                known.append(line + "\n")
    if known and not body.startswith(f"{origin}\n"):
        raise Unreadable("members of this log under the text of another")
    if 3 * len(known) <= 2 * len(members):
        verify_known(f"{body}\n", known, members, origin)
        raise Unreadable(f"{len(known)} of {len(members)} founding members are too few, if they are the members there")
    return f"{body}\n\n{''.join(known)}"


def signature_line(line):
    """A line as C2SP signed-note has them: (line, name, key id and signature)."""
    match = re.fullmatch(r"— ([^ ]+) ([A-Za-z0-9+/]+=*)", line)
    demand(match and len(match[2]) % 4 == 0, "not a signature line")
    # White space of Unicode; the four separators that Python counts among it are control characters.
    demand("+" not in match[1] and not any(c.isspace() for c in match[1]), "not a name of a key")
    data = base64.b64decode(match[2])
    demand(base64.b64encode(data).decode() == match[2] and len(data) > 4, "not a signature")
    return line, match[1], data


def verify_known(body, lines, members, origin):
    """A line of a known key that does not fit is false, however many there are."""
    keys = {f"{origin}/{member['name']}": bytes.fromhex(member["key"]) for member in members}
    signed = [signature_line(line.removesuffix("\n")) for line in lines]
    names = [name for _, name, _ in signed]
    demand(names == sorted(set(names)), "signatures are not in order")
    for _, name, data in signed:
        check_signature(keys[name], body.encode(), data[4:], name)


def check_lone_note(note, pinned):
    """(origin, certified) of a checkpoint that the founding members signed."""
    origin = f"{pinned['origin']}/hbc/{chain_of(pinned).hash.hex()[:16]}"
    members = pinned["members"]
    return check_note(known_lines(note, origin, members), origin, lambda _: members)


def check_tlog(text, txid, pinned):
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    try:
        demand(lines[0] == "c2sp.org/tlog-proof@v1" and len(lines) > 1, "not a tlog-proof")
        demand(re.fullmatch("index (0|[1-9][0-9]*)", lines[1]), "no index")
        path = [base64.b64decode(line, validate=True) for line in lines[2:]]
        demand([base64.b64encode(item).decode() for item in path] == lines[2:], "not strict base64")
        demand(all(len(item) == 32 for item in path), "not a hash")
    except (Refused, ValueError) as error:
        raise Unreadable(f"not a tlog-proof: {error}") from error
    size, root, height, _ = check_lone_note(note, pinned)
    check_inclusion(txid, int(lines[1][6:]), size, [item.hex() for item in path], root, "transaction")
    return f"leaf {txid.hex()} in the log of height {height}, which founding members certified"
