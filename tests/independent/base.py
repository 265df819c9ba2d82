"""What everything else is made of: Ed25519, canonical JSON, hashes, Merkle trees, JWS. Sections 1 to 4 of
docs/FORMATS.md."""
import base64
import hashlib
import json
import re


class Refused(Exception):
    pass


class Unreadable(Refused):
    """The file has not the form of its kind, or something is missing to check it: nothing is known against it
    (§8.2)."""


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


def check_key(data, what):
    """Section 4: which bytes are a key."""
    demand(len(data) == 32 and not same(times(8, point(data)), (0, 1, 1, 0)), f"{what} is no key")


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
KNOWN = {}


def check_signature(key, text, signature, what):
    known = (key, text, signature)
    if known not in KNOWN:
        KNOWN[known] = fits(key, text, signature)
    demand(KNOWN[known], f"the signature of {what} does not fit")


def fits(key, text, signature):
    try:
        demand(len(signature) == 64, "a signature has 64 bytes")
        check_key(key, "A")
        check_key(signature[:32], "R")
    except Refused:
        return False
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if s >= L:
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


# Section 4: signed texts and JWS.
def signed_lines(domain, chain, *rest):
    """A signed text: hbc/pop/v1 of a kid, hbc/root-pop/v1 of two kids and a username, hbc/challenge-answer/v1."""
    return "".join(f"{line}\n" for line in (domain, chain, *rest)).encode()


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
