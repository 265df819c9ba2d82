#!/usr/bin/env python3
"""A second verifier of HBC's files, written from docs/FORMATS.md alone, with nothing but Python's standard library: so
that what the document says and what the project does are compared by something that shares no code with it.

  verify.py GENESIS.json FILE    check a proof document, a checkpoint or an exported chain; exit 0 if it holds, 1 with
                                 the reason if it is false, 2 if it cannot be checked
  verify.py GENESIS.json FILE TRANSACTION    the same of a tlog-proof of that transaction
  verify.py --self-test          check the project's vectors, and that no changed bit of them is accepted
"""
import pathlib
import sys

sys.dont_write_bytecode = True

from chain import *
from proofs import *
from vectors import check_codes, check_listed, check_vectors


def check(data, genesis, transaction=None):
    """What a file of any kind says, if it holds."""
    if data.startswith(b"HBCCHAIN"):
        return check_chain(data, genesis)
    start = data.removeprefix("\ufeff".encode()).lstrip(b" \t\n\r\f")
    if start.startswith(b"{"):
        return verify(data, genesis)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("not text") from error
    if start.startswith(b"c2sp.org/tlog-proof@v1"):
        if transaction is None:
            raise Unreadable("a tlog-proof does not hold its transaction")
        return check_tlog(text, leaf(transaction), genesis)
    size, _, height, block = check_lone_note(text, genesis)
    return f"checkpoint of height {height}, block {block.hex()}, {size} leaves, by founding members"


def section(document, heading):
    return document.split(f"\n## {heading}")[1].split("\n## ")[0]


def page_vector(document):
    """Section 6 states a page's box and hashes in words."""
    stated = " ".join(section(document, "6. Blocks").split("Vector: 4,096 anchors")[1].split())
    run = [anchor_leaf(i % 900, i % 900 + 3, i // 50, sha(u32(i)).hex(), i % 3) for i in range(RUN)]
    data = seal(run)
    numbers = re.search(r"Box ([0-9, ]+);", stated)[1]
    demand([int(n) for n in numbers.split(", ")] == [0, 902, 0, 81], "vector: the box of a page")
    demand(data[:24] == written((0, 902, 0, 81)), "the box of a page")
    hashes = re.findall("`([0-9a-f]{64})`", stated)
    demand(hashes == [data[24:56].hex(), data[56:].hex(), leaf(data).hex()], "vector: the hashes of a page")


def flips(data, step, held):
    """Every so many bits of a file, changed one at a time: none may leave what it says as it was."""
    said = held(data)
    for at in range(0, len(data) * 8, step):
        bad = bytearray(data)
        bad[at // 8] ^= 1 << at % 8
        try:
            other = held(bytes(bad))
        except (Refused, KeyError, TypeError, ValueError):
            continue
        yield at, said, other


def self_test():
    here = pathlib.Path(__file__).resolve().parents[2]
    data = here / "shared/chain/tests/data"
    document = (here / "docs/FORMATS.md").read_text()
    text = section(document, "9. Vectors").split("```")[1]
    stated = dict(line.split(" = ", 1) for line in text.strip().splitlines())
    genesis = decode((data / "genesis.json").read_bytes().rstrip(b"\n"))
    chain, salt, nothing = chain_of(genesis), bytes([7]) * 32, sha(b"")
    place = state_key("service", "auth")
    lone = state_leaf(place, {})
    events = [state_key("event", name) for name in "abc"]
    record = [salt, b"rec-000102030405060708090a0b0c0d0e0f", u32(1), sha(b"received"), sha(b"sealed")]
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
        'leaf hash of the anchor -100, 20000, 7, SHA-256("tx"), 2':
            leaf(anchor_leaf(-100, 20000, 7, sha(b"tx").hex(), 2)).hex(),
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
        demand(stated.get(name) == value, f"vector {name}: {value}")
    first = bytes.fromhex(genesis["members"][0]["key"])
    open_jws(transaction, "hbc-tx+jws", first)
    open_jws(stated["promise of that txid by key 1"], "hbc-promise+jws", first)
    pop = signed_lines("hbc/pop/v1", sha(b"chain").hex(), stated["kid of key 1"])
    check_signature(first, pop, bytes.fromhex(stated['pop of key 1 for chain SHA-256("chain")']), "pop")
    Header(bytes.fromhex(stated["header"])).check_work()

    page_vector(document)
    check_codes(document)
    check_listed(document)
    print(f"{check_vectors(data.parent, check)} files of vectors agree")

    documents = {
        "receipt": 89, "record": 89, "consent": 89, "consistency": 151, "state": 151, "absence": 151, "anchors": 251,
        "delegated-consent": 89, "opening": 89, "bundle": 151, "membership": 151, "numbers": 89,
    }
    for name, step in documents.items():
        file = (data / f"{name}-proof.json").read_bytes()
        for at, said, other in flips(file, step, lambda bad: verify(bad, genesis)):
            # A changed name of what is absent, another question with the same answer, or other numbers that somebody
            # says to have, make another statement.
            demand(name in ("absence", "anchors", "numbers") and other != said, f"{name}: bit {at} may be changed")
        print(f"{name}: {verify(file, genesis)}")

    receipt = json.loads((data / "receipt-proof.json").read_bytes())
    texts = {"checkpoint.txt": None, "receipt.tlog-proof": receipt["anchor"]["transaction"].encode()}
    for name, transaction in texts.items():
        file = (data / name).read_bytes()
        # A fourth signature is one more than needed, and passed over once its name is changed.
        lines = file.split("—".encode())
        for at, _, _ in flips("—".encode().join(lines[:4]), 41, lambda bad: check(bad, genesis, transaction)):
            raise Refused(f"{name}: bit {at} may be changed")
        witness = f"— witness.example/w1 {base64.b64encode(bytes(76)).decode()}\n".encode()
        said = check(file + witness, genesis, transaction)
        demand(said == check(file, genesis, transaction), f"{name}: a witness counts")
        print(f"{name}: {said}")

    chain_file = (data / "chain.hbc").read_bytes()
    founding = decode(chain_file[14 : 14 + int.from_bytes(chain_file[10:14], "big")])
    for at, _, _ in flips(chain_file, 9_973, lambda bad: check_chain(bad, founding)):
        raise Refused(f"chain.hbc: bit {at} may be changed")
    print(f"chain.hbc: {check_chain(chain_file, founding)}")
    print(f"{len(computed) + 5} vectors agree; no changed bit of a file left its statement as it was")


def main():
    try:
        if sys.argv[1:] == ["--self-test"]:
            return self_test()
        genesis, file, *transaction = (pathlib.Path(name).read_bytes() for name in sys.argv[1:])
        said = check(file, decode(genesis.removesuffix(b"\n")), *(text.rstrip(b"\n") for text in transaction))
    except Unreadable as error:
        print(f"cannot be checked: {error}", file=sys.stderr)
        sys.exit(2)
    except (Refused, KeyError, TypeError, ValueError) as error:
        sys.exit(f"refused: {error}")
    print(f"holds: {said}")


if __name__ == "__main__":
    main()
