"""The paper's algorithm as one would first write it: before each append every earlier hash is made anew."""

import hashlib
import json
import sys
import time


def digest(block):
    return hashlib.sha256(json.dumps(block, sort_keys=True).encode()).hexdigest()


def append(chain, hashes, record):
    previous = ""
    for block, known in zip(chain, hashes):
        if block["previous"] != previous or digest(block) != known:
            raise SystemExit("attacked")
        previous = known
    block = {"height": len(chain), "previous": previous, "record": record}
    chain.append(block)
    hashes.append(digest(block))


def grow(chain, hashes, length):
    for height in range(length):
        block = {"height": height, "previous": hashes[-1] if hashes else "", "record": "x" * 400}
        chain.append(block)
        hashes.append(digest(block))


chain, hashes = [], []
grow(chain, hashes, int(sys.argv[1]))
began, appended = time.monotonic(), 0
while time.monotonic() - began < 3:
    append(chain, hashes, "x" * 400)
    appended += 1
print(appended / (time.monotonic() - began))
