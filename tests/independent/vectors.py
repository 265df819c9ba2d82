"""The vectors in shared/chain/tests/vectors, as section 9 of docs/FORMATS.md lists them; records by section 10,
evidence by section 11, rows by section 12."""
import functools
import json

from chain import *
from proofs import *


def refused(what, check, *args, code=1):
    """That something is refused; with code 2, for its form."""
    try:
        check(*args)
    except Unreadable:
        demand(code == 2, f"{what}: is not false, but cannot be checked")
    except (Refused, KeyError, TypeError, ValueError):
        demand(code == 1, f"{what}: cannot be checked, but is not false")
    else:
        raise Refused(f"{what}: is accepted")


def keys(vector):
    key, said = bytes.fromhex(vector["key"]), vector["text"].encode()
    check_key(key, "the key")
    for signature in vector["accepted"]:
        demand(fits(key, said, bytes.fromhex(signature)), "a genuine signature does not fit")
    for one in vector["refused"]:
        demand(not fits(key, said, bytes.fromhex(one["signature"])), one["why"])
    for none in vector["no_keys"]:
        refused(none, check_key, bytes.fromhex(none), "it")


def canonical_texts(vector):
    for one in vector["accepted"]:
        decode(one.encode())
    for one in vector["refused"]:
        refused(one["why"], decode, one["text"].encode())


def receipts(vector):
    for body in vector["accepted"]:
        check_receipt_body(body)
    for one in vector["refused"]:
        refused(one["why"], check_receipt_body, one["body"])


def bodies(vector):
    for one in vector["accepted"]:
        BODIES[one["kind"]](one["body"])
    for one in vector["refused"]:
        refused(f"{one['kind']}: {one['why']}", BODIES[one["kind"]], one["body"])


def certificates(vector):
    def read(one):
        read_statement(one["text"], one["typ"], bytes.fromhex(one["key"]), one["chain"])

    for one in vector["accepted"]:
        read(one)
    for one in vector["refused"]:
        refused(one["why"], read, one)
    for one in vector["consents"]:
        if one["allowed"]:
            allow(one)
        else:
            refused(f"a consent beyond {one['limits']}", allow, one)


def allow(one):
    check_limits(one["limits"], one["scope"], one["at"])
    if "until_ms" in one:
        check_limits({"until_ms": one["until_ms"]}, one["scope"], one["at"])


def stated_numbers(vector):
    def gaps(one):
        read_payload(one["statement"], "hbc-numbers+jws")
        return missing(one["statement"], one["held"])

    for one in vector["accepted"]:
        found = gaps(one)
        demand(found == one["missing"], f"missing are {found}, not {one['missing']}")
    for one in vector["refused"]:
        refused(one["why"], gaps, one)


def signed_objects(vector):
    for one in vector["accepted"]:
        open_jws(one["text"], one["typ"], bytes.fromhex(one["key"]))
    bad = vector["refused"]
    for one in bad["texts"]:
        refused(one["why"], open_jws, one["text"], bad["typ"], bytes.fromhex(bad["key"]))


def state_map(vector):
    root, kinds = bytes.fromhex(vector["root"]), set()
    for entry in vector["proofs"]:
        check_entry(entry, root)
        kinds.add("value" if "value" in entry else "other" if "other" in entry["proof"] else "empty")
        if "value" in entry:
            swapped = {**entry, "id": sha(entry["id"].encode()).hex()}
            refused("another id", check_entry, swapped, root)
    demand(kinds == {"value", "other", "empty"}, "presence and both absences")


def trees(vector):
    leaves = [leaf(bytes.fromhex(data)) for data in vector["leaves"]]
    root = bytes.fromhex(vector["root"])
    demand(tree(leaves) == root, "the root of the tree")
    for one in vector["inclusion"]:
        check_inclusion(leaves[one["index"]], one["index"], len(leaves), one["path"], root, "leaf")
    for one in vector["consistency"]:
        old = tree(leaves[: one["size"]])
        demand(old.hex() == one["root"], "the root of an earlier tree")
        consistent(one["size"], len(leaves), [bytes.fromhex(item) for item in one["path"]], old, root)


def notes(vector):
    for note in vector["accepted"]:
        check_lone_note(note, vector["genesis"])
    for one in vector["refused"]:
        refused(one["why"], check_lone_note, one["text"], vector["genesis"], code=one["code"])


def votes(vector):
    state = State(vector["genesis"])
    for step in vector["steps"]:
        state.begin()
        for jws in step["transactions"]:
            tx = Transaction(jws.encode())
            open_jws(jws, "hbc-tx+jws", bytes.fromhex(state.keys[tx.kid]))
            state.apply(tx, step["time_ms"])
        demand(state.root().hex() == step["state_root"], "the state after a vote")
    demand(len(state.entries["members", ""]) == 3, "the last vote takes effect")


# Section 10.
PIECE = 1_048_576


def slice_digest(encrypted):
    if len(encrypted) <= PIECE:
        return sha(encrypted)
    return tree([leaf(encrypted[at : at + PIECE]) for at in range(0, len(encrypted), PIECE)])


def bucket(n):
    if n <= 512:
        return 512
    power = 1 << (n - 1).bit_length() - 1
    step = power // 2 if power < 65_536 else power // 8
    return -(-n // step) * step


def records(vector):
    for n, padded in vector["buckets"]:
        demand(bucket(n) == padded, f"bucket({n}) is {bucket(n)}, not {padded}")
    for one in vector["slices"]:
        encrypted = (bytes(range(251)) * (one["length"] // 251 + 1))[: one["length"]]
        demand(slice_digest(encrypted).hex() == one["digest"], f"the digest of {one['length']} bytes")


# Section 12.
COLUMNS = {"promises": 3, "refusals": 5, "evidence": 5}


def column(value):
    if value is None:
        return b""
    (form, given), = value.items()
    return {"text": str.encode, "number": u64, "hex": bytes.fromhex}[form](given)


def rows(vector):
    key = H("hbc/ledger-row-key/v1", unhex(vector["seed"], 32, "a seed"))
    macs = []
    for row in vector["rows"]:
        demand(len(row["columns"]) == COLUMNS[row["table"]], f"columns of {row['table']}")
        macs.append(H("hbc/ledger-row/v1", key, row["table"].encode(), *map(column, row["columns"])))
        demand(macs[-1].hex() == row["mac"], f"the MAC of a row of {row['table']}")
    multiset = vector["multiset"]
    demand(multiset["entries"] == len(macs), "the multiset is over other rows")
    parts = [H("hbc/ledger-multiset/v1", key, u64(len(macs)), unhex(multiset["nonce"], 32, "a nonce"))]
    parts += [H("hbc/ledger-multiset-row/v1", key, mac) for mac in macs]
    digest = functools.reduce(lambda a, b: bytes(x ^ y for x, y in zip(a, b)), parts)
    demand(digest.hex() == multiset["digest"], "the digest of the multiset")


# Section 11.
def slot(said, chain):
    """(step, height, round) of a signed text."""
    number, value = "(0|[1-9][0-9]*)", f"{DIGEST} (?:0|[1-9][0-9]*) {DIGEST}"
    head = f"\n{chain}\n{number}\n{number}\n"
    steps = [
        (0, f"hbc/proposal/v1{head}(?:{number}|-)\n{value}\n"),
        (1, f"hbc/prevote/v1{head}(?:{value}|nil)\n"),
        (2, f"hbc/precommit-nil/v1{head}nil\n"),
        (2, f"[a-z0-9.-]+/hbc/{chain[:16]}\n{number}\n[A-Za-z0-9+/]{{43}}=\nhbc-block {number} {number} {DIGEST}\n"),
    ]
    for step, pattern in steps:
        match = re.fullmatch(pattern, said)
        if match:
            first = 2 if said.startswith("hbc/") is False else 1
            return step, int(match[first]), int(match[first + 1])
    raise Refused("a text that members do not sign")


def check_evidence(document, chain):
    """None of a double vote; of an answer to a challenge, what the block has to give another one than."""
    key = unhex(document["pub"], 32, "pub")
    demand(document["chain"] == chain, "another chain")
    if document["kind"] == "equivocation":
        fields(document, ("chain", "first", "height", "kind", "pub", "second"))
        texts = [document[name]["text"] for name in ("first", "second")]
        demand(texts[0].encode() < texts[1].encode(), "the texts do not ascend")
        slots = [slot(said, chain) for said in texts]
        demand(slots[0] == slots[1] and slots[0][1] == document["height"], "no contradiction")
        for name in ("first", "second"):
            fields(document[name], ("signature", "text"))
            check_signature(key, document[name]["text"].encode(), unhex(document[name]["signature"], 64, "it"), name)
        return None
    fields(document, ("answer", "chain", "height", "kind", "nonce", "pub", "signature"))
    rest = (document["height"], document["nonce"], document["answer"])
    said = signed_lines("hbc/challenge-answer/v1", chain, *rest)
    check_signature(key, said, unhex(document["signature"], 64, "it"), "the answer")
    return unhex(document["answer"], 32, "answer")


def evidence(vector):
    chain, block = vector["chain"], vector["block"]
    header, body = bytes.fromhex(block["header"]), bytes.fromhex(block["body"])
    for document in vector["accepted"]:
        given = check_evidence(document, chain)
        if given is not None:
            right = H("hbc/challenge/v1", bytes.fromhex(document["nonce"]), header, body)
            demand(given != right, "the answer is the right one")
            demand(check_evidence(vector["right_answer"], chain) == right, "the right answer")
    for one in vector["refused"]:
        refused(one["why"], check_evidence, one["document"], chain)


def outcomes(vector, check):
    for one in vector["files"]:
        file = one["file"].encode()
        if one["code"] == 0:
            check(file, vector["genesis"])
        else:
            refused(one["what"], check, file, vector["genesis"], code=one["code"])


SUBJECTS = {
    "keys": keys, "json": canonical_texts, "receipts": receipts, "bodies": bodies, "certificates": certificates,
    "numbers": stated_numbers, "jws": signed_objects, "map": state_map, "merkle": trees, "records": records,
    "rows": rows, "notes": notes, "votes": votes, "evidence": evidence, "outcomes": outcomes,
}
PROOFS = (
    "receipt record consent consistency state absence delegated-consent opening bundle membership numbers anchors"
).split()
DATA = ["genesis.json", "checkpoint.txt", "receipt.tlog-proof", "chain.hbc", *(f"{name}-proof.json" for name in PROOFS)]


def check_vectors(folder, check):
    """Every file by its hash and by what it says; answers how many there are."""
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    there = {
        f"{part}/{file.name}" for part in ("data", "vectors") for file in (folder / part).iterdir() if file.is_file()
    }
    listed = {f"vectors/{name}.json" for name in SUBJECTS} | {f"data/{name}" for name in DATA}
    demand(listed <= there, f"missing: {', '.join(sorted(listed - there))}")
    demand(there <= listed, f"files that section 9 does not list: {', '.join(sorted(there - listed))}")
    demand(set(sums) == there, f"SHA256SUMS names other files: {', '.join(sorted(set(sums) ^ there))}")
    for name, digest in sums.items():
        demand(sha((folder / name).read_bytes()).hex() == digest, f"{name} has another hash")
    for name, look in SUBJECTS.items():
        vector = json.loads((folder / f"vectors/{name}.json").read_text())
        try:
            look(vector, check) if name == "outcomes" else look(vector)
        except Refused as error:
            raise Refused(f"vectors/{name}.json: {error}") from error
    return len(SUBJECTS)


def check_listed(document):
    """The tables of section 9 list the files that this verifier checks, and no others."""
    rows = document.split("\n## 9. Vectors")[1].split("\n## ")[0].splitlines()
    stated = [name for row in rows if row.startswith("| `") for name in re.findall("`([^`]+)`", row.split("|")[1])]
    known = {*DATA, *(f"{name}.json" for name in SUBJECTS)} - {"genesis.json"}
    demand(set(stated) == known, f"section 9 lists other files: {', '.join(sorted(set(stated) ^ known))}")


def check_codes(document):
    """Section 13 lists the codes that this verifier knows, and no others."""
    rows = [line.strip("|").split("|") for line in document.split("\n## 13. Codes")[1].splitlines() if line[:1] == "|"]
    stated = {cells[0].strip(): re.findall("`([^`]+)`", cells[2]) for cells in rows[2:]}
    demand(stated == CODES, "section 13: other codes")
