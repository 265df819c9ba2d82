"""A whole exported chain: every certificate, every block, and of every transaction the form, the signature and the
effect. Sections 5, 6 and 8 of docs/FORMATS.md."""
import re

from blocks import *

GRANT_ID = "grt-[0-9a-f]{32}"


# Section 5: form and limits.
def distinct(items, what):
    demand(len(items) == len(set(items)), f"{what} has one twice")


def introduces(payload):
    check_public(payload, payload["key"])


def member_vote(payload):
    integer(payload["nonce"], 0, LARGEST, "nonce")
    kind, _, name = payload["subject"].partition(":")
    if kind == "parameter":
        demand(name in PARAMETERS, "no such parameter")
        text(payload["value"], "0|[1-9][0-9]{0,15}", "value")
        integer(int(payload["value"]), 0, LARGEST, "value")
    else:
        demand(kind in ("member", "operator"), "no such subject")
        text(name, NAME, "subject")
        text(payload["value"], f"{DIGEST}|none", "value")


def service_key(payload):
    integer(payload["nonce"], 0, LARGEST, "nonce")
    introduces(payload)
    text(payload["role"], "auth|access-policy|storage", "role")
    text(payload["status"], "active|revoked", "status")


def identity_staff(payload):
    integer(payload["nonce"], 0, LARGEST, "nonce")
    introduces(payload)
    text(payload["commitment"], DIGEST, "commitment")
    plain(payload["organisation"], "organisation")
    text(payload["role"], NAME, "role")
    text(payload["status"], "active|suspended|revoked", "status")


def identity_key(payload):
    text(payload["key"], DIGEST, "key")
    text(payload["status"], "active|revoked", "status")
    if payload["status"] == "revoked":
        return demand("pub" not in payload and "pop" not in payload, "a revocation has neither pub nor pop")
    introduces(payload)
    possession = signed_lines("hbc/pop/v1", payload["chain"], payload["key"])
    check_signature(bytes.fromhex(payload["pub"]), possession, unhex(payload["pop"], 64, "pop"), "pop")


def record_anchor(payload):
    demand(isinstance(payload["segments"], list) and 1 <= len(payload["segments"]) <= 64, "1 to 64 segments")
    for segment in payload["segments"]:
        fields(segment, ("bytes", "cid", "day0", "day1", "digest", "records", "root", "tag"))
        for day in ("day0", "day1"):
            integer(segment[day], -62_091, 2_932_896, day)
        demand(segment["day0"] <= segment["day1"], "day1 is before day0")
        text(segment["cid"], "b[a-z2-7]{9,127}", "cid")
        text(segment["digest"], DIGEST, "digest")
        text(segment["root"], DIGEST, "root")
        text(segment["tag"], "[0-9a-f]{32}", "tag")
        integer(segment["bytes"], 1, LARGEST, "bytes")
        integer(segment["records"], 1, 2**32 - 1, "records")
    ascending([segment["root"] for segment in payload["segments"]], "segments")


def record_erase(payload):
    text(payload["commitment"], DIGEST, "commitment")
    demand(1 <= len(payload["roots"]) + len(payload["records"]) <= 1024, "1 to 1,024 digests")
    for part in ("roots", "records"):
        demand(isinstance(payload[part], list), f"{part} is no list")
        distinct([unhex(item, 32, part) for item in payload[part]], part)


def consent(payload):
    text(payload["commitment"], DIGEST, "commitment")
    text(payload["custody"], "server|client|passkey", "custody")
    consent_revoke(payload)
    integer(payload["seq"], 1, LARGEST, "seq")
    demand((payload["seq"] == 1) == (payload["prev"] is None), "prev is null for the first event only")
    if payload["prev"] is not None:
        text(payload["prev"], DIGEST, "prev")


def consent_revoke(payload):
    text(payload["grant"], GRANT_ID, "grant")
    text(payload["key"], DIGEST, "key")


def identity_member(payload):
    integer(payload["nonce"], 0, LARGEST, "nonce")
    for name in ("commitment", "key", "organisation"):
        text(payload[name], DIGEST, name)
    demand(payload["key"] != payload["organisation"], "a member of themselves")
    text(payload["status"], "active|ended", "status")


def operator_order(payload):
    integer(payload["nonce"], 0, LARGEST, "nonce")
    text(payload["commitment"], DIGEST, "commitment")
    text(payload["kind"], ORDERS, "kind")
    text(payload["subject"], DIGEST, "subject")


def access_receipts(payload):
    integer(payload["count"], 1, LARGEST, "count")
    if "rights" in payload:
        text(payload["rights"], DIGEST, "rights")
    text(payload["root"], DIGEST, "root")


def statistics_release(payload):
    text(payload["digest"], DIGEST, "digest")
    plain(payload["period"], "period")


def node_event(payload):
    text(payload["event"], NAME, "event")
    text(payload["node"], NAME, "node")
    text(payload["evidence"], DIGEST, "evidence")
    integer(payload["height"], 0, LARGEST, "height")


CONSENT = "commitment custody grant key prev seq"
FORMS = {
    "member.vote": ("nonce subject value", "", member_vote),
    "service.key": ("key nonce pub role status", "", service_key),
    "identity.staff": ("commitment key nonce organisation pub role status", "", identity_staff),
    "identity.key": ("key status", "pop pub", identity_key),
    "identity.member": ("commitment key nonce organisation status", "", identity_member),
    "record.anchor": ("segments", "", record_anchor),
    "record.erase": ("commitment records roots", "", record_erase),
    "consent.grant": (CONSENT, "", consent),
    "consent.alter": (CONSENT, "", consent),
    "consent.revoke": ("grant key", "", consent_revoke),
    "access.receipts": ("count root", "rights", access_receipts),
    "statistics.release": ("digest period", "", statistics_release),
    "node.event": ("event evidence height node", "", node_event),
    "operator.order": ("commitment kind nonce subject", "", operator_order),
}


class Transaction:
    def __init__(self, data):
        demand(len(data) <= 262_144, "a transaction is too large")
        try:
            self.jws = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise Refused("not a compact JWS") from error
        demand(self.jws.count(".") == 2, "not a compact JWS")
        header, payload, _ = self.jws.split(".")
        match = re.fullmatch(f'{{"alg":"EdDSA","kid":"({DIGEST})","typ":"hbc-tx\\+jws"}}', unbase64url(header).decode())
        demand(match, "not the header of a transaction")
        self.kid, self.txid, self.payload = match[1], leaf(data).hex(), decode(unbase64url(payload))
        demand(isinstance(self.payload, dict) and self.payload.get("type") in FORMS, "not a type of transaction")
        needed, optional, check = FORMS[self.payload["type"]]
        fields(self.payload, ("chain", "iat", "type", *needed.split()), optional.split())
        text(self.payload["chain"], DIGEST, "chain")
        integer(self.payload["iat"], 0, LARGEST, "iat")
        check(self.payload)

    def ballot(self):
        return H("hbc/ballot/v1", canonical({**self.payload, "iat": 0})).hex()


# Section 5: the effect of each type.
class State:
    """The state after a block; during one, as the transactions so far have left it."""

    def __init__(self, genesis):
        self.header = chain_of(genesis)
        self.chain = self.header.hash.hex()
        self.entries, self.txids, self.anchors, self.log = {}, set(), [], []
        for kind in ("members", "operators", "parameters"):
            self.entries[kind, ""] = genesis[kind]
        for service in genesis["services"]:
            kid = sha(bytes.fromhex(service["key"])).hex()
            self.entries["service", kid] = {"pub": service["key"], "role": service["role"], "status": "active"}
        self.keys = {}
        self.begin()

    def begin(self):
        """What stays as the block before left it, whatever the block does."""
        self.members, self.operators = (
            {kid_of(named): named for named in self.entries[kind, ""]} for kind in ("members", "operators")
        )
        self.parameters = self.entries["parameters", ""]
        self.keys.update((kid, named["key"]) for kid, named in (self.members | self.operators).items())

    def root(self):
        leaves = []
        for (kind, name), value in self.entries.items():
            key = state_key(kind, name)
            leaves.append((key, state_leaf(key, value)))
        runs = [self.anchors[at : at + RUN] for at in range(0, len(self.anchors) // RUN * RUN, RUN)]
        pages = tree([leaf(seal(run)) for run in runs])
        return H("hbc/state/v1", map_root(leaves), tree([leaf(anchor) for anchor in self.anchors]), pages)

    def is_service(self, kid, role):
        entry = self.entries.get(("service", kid))
        return entry is not None and entry["role"] == role and entry["status"] == "active"

    def apply(self, tx, time_ms):
        demand(tx.payload["chain"] == self.chain, "for another chain")
        demand(tx.txid not in self.txids, "final already")
        demand(tx.payload["iat"] <= time_ms + 30_000, "signed too far ahead")
        EFFECTS[tx.payload["type"]](self, tx, tx.payload)
        self.txids.add(tx.txid)

    def with_vote(self, tx, place):
        """The votes there with this one, in the place of the signer's earlier one."""
        votes = self.entries.get(place, [])
        ballot = tx.ballot()
        demand(all((v["key"], v["ballot"]) != (tx.kid, ballot) for v in votes), "the vote was given already")
        votes = [v for v in votes if v["key"] != tx.kid] + [{"ballot": ballot, "key": tx.kid, "txid": tx.txid}]
        return sorted(votes, key=lambda v: v["key"])

    def keep_votes(self, place, votes):
        self.entries.pop(place, None)
        if votes:
            self.entries[place] = votes

    def vote(self, tx, subject, enough):
        """Whether the change takes effect."""
        place, ballot = ("ballots", subject), tx.ballot()
        votes = self.with_vote(tx, place)
        takes_effect = enough({v["key"] for v in votes if v["ballot"] == ballot})
        self.keep_votes(place, [] if takes_effect else votes)
        return takes_effect

    def count(self, subject):
        return self.entries.get(("changes", subject), {"count": 0})["count"]

    def change(self, tx, subject, enough, place, value):
        """A vote on a subject that has a nonce."""
        if self.vote(tx, subject, enough):
            self.entries[place] = value
            self.entries["changes", subject] = {"count": self.count(subject) + 1, "txid": tx.txid}

    def quorum(self, supporters):
        return 3 * len(supporters & set(self.members)) > 2 * len(self.members)


def kid_of(named):
    return sha(bytes.fromhex(named["key"])).hex()


def apply_member_vote(state, tx, payload):
    demand(tx.kid in state.members, "not a member")
    subject = payload["subject"]
    demand(payload["nonce"] == state.count(subject), "another nonce is due")
    kind, name = subject.split(":")
    if kind == "parameter":
        place, old = ("parameters", ""), state.entries["parameters", ""]
        new = {**old, name: int(payload["value"])}
        check_parameters(new)
        operators = state.entries["operators", ""]
    else:
        place, other = (f"{kind}s", ""), {"member": "operators", "operator": "members"}[kind]
        old = state.entries[place]
        new = [one for one in old if one["name"] != name]
        if payload["value"] != "none":
            key = payload["value"]
            new = sorted([*new, {"key": key, "name": name}], key=lambda one: one["name"])
            free = ("service", sha(bytes.fromhex(key)).hex()) not in state.entries
            demand(free and all(one["key"] != key for one in state.entries[other, ""]), "the key serves another party")
        check_names(new, {"member": 100, "operator": 1_000}[kind])
        operators = new if kind == "operator" else state.entries["operators", ""]
    demand(new != old, "the change changes nothing")
    approvals = (new if kind == "parameter" else state.entries["parameters", ""])["approvals"]
    demand(kind == "member" or len(operators) >= approvals, "fewer operators than approvals")
    state.change(tx, subject, state.quorum, place, new)


def apply_service_key(state, tx, payload):
    demand(tx.kid in state.members, "not a member")
    subject, entry = f"service:{payload['key']}", state.entries.get(("service", payload["key"]))
    demand(payload["nonce"] == state.count(subject), "another nonce is due")
    if entry is None:
        demand(payload["status"] == "active", "a first status is active")
        named = state.entries["members", ""] + state.entries["operators", ""]
        demand(all(one["key"] != payload["pub"] for one in named), "the key serves another party")
    else:
        demand(entry["status"] == "active" and payload["status"] == "revoked", "revoked for ever, or active already")
        demand(entry["role"] == payload["role"], "a key keeps its role")
    value = {name: payload[name] for name in ("pub", "role", "status")} | {"txid": tx.txid}
    state.change(tx, subject, state.quorum, ("service", payload["key"]), value)


def apply_staff(state, tx, payload):
    demand(tx.kid in state.operators or state.is_service(tx.kid, "auth"), "neither auth nor an operator")
    subject, entry = f"staff:{payload['key']}", state.entries.get(("staff", payload["key"]))
    demand(payload["nonce"] == state.count(subject), "another nonce is due")
    demand(payload["status"] == "active" if entry is None else entry["status"] != "revoked", "not the first, or ended")

    def enough(supporters):
        operators = len(supporters & set(state.operators))
        if payload["status"] != "active":
            return operators >= 1
        return operators >= state.parameters["approvals"] and any(state.is_service(kid, "auth") for kid in supporters)

    names = ("commitment", "organisation", "pub", "role", "status")
    value = {name: payload[name] for name in names} | {"txid": tx.txid}
    state.change(tx, subject, enough, ("staff", payload["key"]), value)


def apply_node_event(state, tx, payload):
    demand(tx.kid in state.members, "not a member")
    node = [kid for kid, member in state.members.items() if member["name"] == payload["node"]]
    demand(node, "no member has this name")
    ballot, place = tx.ballot(), ("ballots", f"event:{payload['node']}")
    demand(("event", ballot) not in state.entries, "it counts already")
    own = node[0] == tx.kid
    votes = state.entries.get(place, []) if own else state.with_vote(tx, place)
    supporters = {vote["key"] for vote in votes if vote["ballot"] == ballot}
    if own or 3 * len(supporters & set(state.members)) > len(state.members):
        votes = [vote for vote in votes if vote["ballot"] != ballot]
        state.entries["event", ballot] = {"txid": tx.txid}
    state.keep_votes(place, votes)


def apply_member(state, tx, payload):
    either = (payload["organisation"], payload["key"])
    demand(tx.kid == either[0] or (payload["status"] == "ended" and tx.kid == either[1]), "neither side")
    place = ("affiliation", "/".join(either))
    entry = state.entries.get(place, {"count": 0, "status": "ended"})
    demand(payload["nonce"] == entry["count"], "another nonce is due")
    if payload["status"] == "active":
        for kid in either:
            staff = state.entries.get(("staff", kid))
            demand(staff is not None and staff["status"] == "active", "no active staff profile")
    else:
        demand(entry["status"] == "active", "the change changes nothing")
    value = {name: payload[name] for name in ("commitment", "status")}
    state.entries[place] = {**value, "count": entry["count"] + 1, "txid": tx.txid}


def apply_order(state, tx, payload):
    demand(tx.kid in state.operators, "not an operator")
    subject = f"order:{payload['kind']}:{payload['subject']}"
    demand(payload["nonce"] == state.count(subject), "another nonce is due")

    def enough(supporters):
        return len(supporters & set(state.operators)) >= state.parameters["approvals"]

    place = ("order", f"{payload['kind']}/{payload['subject']}")
    state.change(tx, subject, enough, place, {"commitment": payload["commitment"], "txid": tx.txid})


def apply_receipts(state, tx, payload):
    demand(state.is_service(tx.kid, "access-policy"), "not access-policy")
    place = ("receipts", payload["root"])
    demand(place not in state.entries, "it stands on the ledger already")
    kept = {name: payload[name] for name in ("count", "rights") if name in payload}
    state.entries[place] = {**kept, "txid": tx.txid}


def apply_key(state, tx, payload):
    place = ("key", payload["key"])
    entry = state.entries.get(place)
    by_auth = state.is_service(tx.kid, "auth")
    if payload["status"] == "active":
        demand(by_auth and entry is None, "not auth, or registered already")
        entry = {"prev": None, "pub": payload["pub"], "seq": 0, "unseen": 0}
    else:
        demand(by_auth or tx.kid == payload["key"], "neither auth nor the key")
        demand(entry is not None and entry["status"] == "active", "not registered, or revoked already")
    state.entries[place] = {**entry, "status": payload["status"], "txid": tx.txid}


def apply_consent(state, tx, payload):
    demand(tx.kid == payload["key"], "not signed by its key")
    place, of_grant = ("key", tx.kid), ("grant", f"{tx.kid}/{payload['grant']}")
    key, grant = state.entries.get(place), state.entries.get(of_grant)
    demand(key is not None and key["status"] == "active", "the key is not registered or revoked")
    demand(payload["seq"] == key["seq"] + 1 and payload["prev"] == key["prev"], "not the key's next event")
    if payload["type"] == "consent.grant":
        demand(grant is None, "the grant exists")
    else:
        demand(grant is not None and grant["status"] == "active", "no such grant, or revoked")
    state.entries[place] = {**key, "prev": tx.txid, "seq": payload["seq"]}
    value = {name: payload[name] for name in ("commitment", "custody", "seq")}
    state.entries[of_grant] = {**value, "status": "active", "txid": tx.txid}


def apply_revoke(state, tx, payload):
    demand(tx.kid == payload["key"] and ("key", tx.kid) in state.entries, "not signed by its registered key")
    place = ("grant", f"{tx.kid}/{payload['grant']}")
    grant = state.entries.get(place)
    if grant is None:
        key = state.entries["key", tx.kid]
        demand(key["unseen"] < 64, "the key revoked 64 grants that were never seen")
        state.entries["key", tx.kid] = {**key, "unseen": key["unseen"] + 1}
        grant = {"seq": 0, "status": "active"}
    demand(grant["status"] != "revoked", "revoked already")
    state.entries[place] = {**grant, "status": "revoked", "txid": tx.txid}


def apply_anchor(state, tx, payload):
    demand(state.is_service(tx.kid, "storage"), "not storage")
    height = state.header.height + 1
    for place, segment in enumerate(payload["segments"]):
        demand(("segment", segment["root"]) not in state.entries, "the root stands on the ledger already")
        state.entries["segment", segment["root"]] = {"txid": tx.txid}
        state.anchors.append(anchor_leaf(segment["day0"], segment["day1"], height, tx.txid, place))


def apply_erase(state, tx, payload):
    demand(state.is_service(tx.kid, "access-policy"), "not access-policy")
    for digest in payload["roots"] + payload["records"]:
        state.entries.setdefault(("erased", digest), {"commitment": payload["commitment"], "txid": tx.txid})


def apply_release(state, tx, payload):
    demand(state.is_service(tx.kid, "storage"), "not storage")
    place = ("release", payload["digest"])
    demand(place not in state.entries, "it stands on the ledger already")
    state.entries[place] = {"period": payload["period"], "txid": tx.txid}


EFFECTS = {
    "member.vote": apply_member_vote,
    "service.key": apply_service_key,
    "identity.staff": apply_staff,
    "identity.key": apply_key,
    "identity.member": apply_member,
    "operator.order": apply_order,
    "record.anchor": apply_anchor,
    "record.erase": apply_erase,
    "consent.grant": apply_consent,
    "consent.alter": apply_consent,
    "consent.revoke": apply_revoke,
    "access.receipts": apply_receipts,
    "statistics.release": apply_release,
    "node.event": apply_node_event,
}


# Sections 6 and 8: blocks in a file.
class Reader:
    def __init__(self, data, cut):
        self.data, self.at, self.cut = data, 0, cut

    def take(self, length):
        if self.at + length > len(self.data):
            raise self.cut("cut off")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, length=4):
        return int.from_bytes(self.take(length), "big")

    def part(self, largest):
        length = self.number()
        demand(length <= largest, "a length is beyond its limit")
        return self.take(length)


def check_block(state, block, note, origin):
    parts = Reader(block, Refused)
    header, count = Header(parts.take(180)), parts.number()
    demand(count <= 16_384, "too many transactions")
    texts = [parts.take(parts.number()) for _ in range(count)]
    demand(parts.at == len(block) <= state.parameters["max_block_bytes"], "not a block, or too large")

    state.begin()
    certified = check_note(note.decode(), origin, lambda _: list(state.members.values()))
    demand(certified == (header.log_size, header.log_root, header.height, header.hash), "another block is certified")
    parent = state.header
    demand(header.height == parent.height + 1 and header.prev == parent.hash, "another parent")
    demand(header.time_ms >= parent.time_ms + max(1, state.parameters["min_spacing_ms"]), "too early")
    demand(header.data[160:164] == u32(state.parameters["target"]), "another target")
    demand(header.data[164:172].hex() in {kid[:16] for kid in state.members}, "the miner is no member")
    header.check_work()
    state.log += [leaf(parent.data), *map(leaf, texts)]
    demand(header.data[48:80] == tree([leaf(one) for one in texts]), "another tx_root")
    demand((header.log_size, header.log_root) == (len(state.log), tree(state.log)), "another log")

    transactions = [Transaction(one) for one in texts]
    for (kind, name), entry in state.entries.items():
        if kind in ("service", "staff", "key"):
            state.keys[name] = entry["pub"]
    state.keys.update((tx.payload["key"], tx.payload["pub"]) for tx in transactions if "pub" in tx.payload)
    for tx in transactions:
        demand(tx.kid in state.keys, "signed by an unknown key")
        open_jws(tx.jws, "hbc-tx+jws", bytes.fromhex(state.keys[tx.kid]))
        state.apply(tx, header.time_ms)
    demand(header.state_root == state.root(), "another state_root")
    state.header = header
    return count


def check_chain(data, pinned):
    file = Reader(data, Unreadable)
    if file.take(10) != b"HBCCHAIN\0\1":
        raise Unreadable("not an exported chain of version 1")
    genesis = decode(file.part(1_048_576))
    check_genesis(genesis)
    state = State(genesis)
    demand(state.chain == chain_of(pinned).hash.hex(), "another chain")
    origin, count = f"{genesis['origin']}/hbc/{state.chain[:16]}", 0
    while (length := file.number()) != 0:
        demand(length <= 8_388_608, "a length is beyond its limit")
        block, height = file.take(length), state.header.height + 1
        note = file.part(65_536)
        try:
            count += check_block(state, block, note, origin)
        except Refused as error:
            raise Refused(f"block {height}: {error}") from error
    demand(file.number(8) == state.header.height and file.at == len(data), "the end is wrong")
    return f"chain of {state.header.height} blocks, {count} transactions, tip {state.header.hash.hex()}"


def check_genesis(genesis):
    fields(genesis, ("members", "operators", "origin", "parameters", "services", "time_ms"))
    text(genesis["origin"], "[a-z0-9.-]{1,100}", "origin")
    integer(genesis["time_ms"], 0, LARGEST, "time_ms")
    check_names(genesis["members"], 100)
    check_names(genesis["operators"], 1_000)
    check_parameters(genesis["parameters"])
    demand(len(genesis["operators"]) >= genesis["parameters"]["approvals"], "fewer operators than approvals")
    services = [(service["role"], service["key"]) for service in genesis["services"]]
    demand(services == sorted(set(services)), "services are not in order")
    demand({role for role, _ in services} == {"auth", "access-policy", "storage"}, "a service has no key")
    keys = [key for _, key in services] + [one["key"] for one in genesis["members"] + genesis["operators"]]
    distinct(keys, "genesis.json")
    for key in keys:
        check_key(bytes.fromhex(key), "a key")
