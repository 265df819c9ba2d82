"""The vectors in shared/chain/tests/vectors, as section 9 of docs/FORMATS.md lists them; evidence by section 11."""
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
    lines = ("hbc/challenge-answer/v1", chain, str(document["height"]), document["nonce"], document["answer"])
    said = "".join(f"{line}\n" for line in lines).encode()
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


def check_vectors(folder, check):
    """Every file by its hash and by what it says; answers how many there are."""
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    there = {f"{part}/{file.name}" for part in ("data", "vectors") for file in (folder / part).iterdir() if file.is_file()}
    demand(set(sums) == there, "SHA256SUMS names other files than there are")
    for name, digest in sums.items():
        demand(sha((folder / name).read_bytes()).hex() == digest, f"{name} has another hash")
    subjects = {
        "keys": keys, "json": canonical_texts, "receipts": receipts, "jws": signed_objects, "map": state_map, "merkle": trees, "notes": notes,
        "votes": votes, "evidence": evidence, "outcomes": lambda vector: outcomes(vector, check),
    }
    demand({f"vectors/{name}.json" for name in subjects} == {name for name in sums if name.startswith("v")}, "subjects")
    for name, look in subjects.items():
        try:
            look(json.loads((folder / f"vectors/{name}.json").read_text()))
        except Refused as error:
            raise Refused(f"vectors/{name}.json: {error}") from error
    return len(subjects)


def check_codes(document):
    """Section 13 lists the codes that this verifier knows, and no others."""
    rows = [line.strip("|").split("|") for line in document.split("\n## 13. Codes")[1].splitlines() if line[:1] == "|"]
    stated = {cells[0].strip(): re.findall("`([^`]+)`", cells[2]) for cells in rows[2:]}
    demand(stated == CODES, "section 13: other codes")
