#!/usr/bin/env python3
"""Checks an evidence bundle of an Edict ledger (docs/ledger.md, "Evidence bundle"). A second verifier: it shares no
code with Edict's own, and needs nothing but Python 3.8. Exit codes: 0 no verdict failed, 1 one did, 2 usage."""
import argparse, base64, bisect, datetime, functools, hashlib, itertools, json, re, struct, sys, time, uuid
from collections import Counter, namedtuple
VERDICTS = "authenticity append_only integrity projection completeness lifecycle freshness clock".split()
KINDS = ("- decision gap quarantine conflict erasure retention access key heartbeat seal incarnation alert activation "
         "artifact emitter heal fulfilment refusals lost").split()
DECISION, ERASURE, RETENTION, SEAL, INCARNATION, EVENT = 1, 5, 6, 10, 11, "application/cloudevents+json"
EVENTS = {f"edict.{name}.v1": kind for kind, name in enumerate(KINDS) if kind in (1, 9, 13, 14, 17, 18, 19)}
EVENTS["edict.start.v1"], OWN_KINDS, OWN = 15, {2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 15, 16}, "application/json"
FORMAT, MAX_BYTES, TOLERANCE_US, DAY_US, FLOOR_DAYS = "edict-evidence/v1", 32 << 20, 5_000_000, 86_400_000_000, 183
ABOUT, MANIFEST, LINE = map(set, map(str.split, ("format scope tenant origin by exported_at filter access size start",
    "format counts policies policies_cut members", "seq entry salt content_type payload gone proof checkpoint")))
TYPES = dict(filter=dict, access=dict, start=object, counts=dict, policies=list, policies_cut=bool, members=list)
WHERE = dict(subject="input subject id", subject_type="input subject type", agent="input agent id",
             action="input action name", resource="input resource id", resource_type="input resource type",
             decision="answer decision", session="input context session", purpose="input context purpose")
Entry = namedtuple("Entry", "kind seq us id topic partition offset emitter boot number set c prev")
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def lp(data): return struct.pack(">I", len(data)) + data
obj, items, string = (lambda value, t=t: value if isinstance(value, t) else t() for t in (dict, list, str))
def refuse(why): raise ValueError(why)
def counters(them): return [int(v) for v in them if re.fullmatch("0|[1-9][0-9]{0,19}", string(v)) and int(v) < 1 << 64]
def counter(value): return (counters([value]) or refuse("no number"))[0]
def unbase64(text):
    data = base64.b64decode(text, validate=True)
    return data if base64.b64encode(data).decode() == text else refuse("base64 in another spelling")
def parse(data, names=None):
    value = json.loads(data.decode("utf-8"), parse_constant=refuse, parse_int=lambda t: int(t) if len(t) < 20 else 0.5)
    good = not names or set(value) == names and all(isinstance(value[n], TYPES.get(n, str)) for n in names)
    return value if good and (not names or value["format"] == FORMAT) else refuse("other members than the format's")
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519, RFC 8032, section 5.1
D = -121665 * pow(121666, P - 2, P) % P
def point(data):
    y = int.from_bytes(data, "little") & (1 << 255) - 1
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * v**3 * pow(u * v**7, (P - 5) // 8, P) % P
    x = x if (v * x * x - u) % P == 0 else x * pow(2, P >> 2, P) % P
    x = P - x if x & 1 != data[31] >> 7 else x
    return (x, y, 1, x * y % P) if (v * x * x - u) % P == 0 else refuse("no point")
def add(p, q):
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P
def times(n, p):
    half = times(n >> 1, p) if n else (0, 1, 1, 0)
    return add(add(half, half), p) if n & 1 else add(half, half) if n else half
def verifies(key, message, signature):
    s, (x, y, _, t) = int.from_bytes(signature[32:], "little"), point(key)
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    x, y, z, _ = add(times(s % L, point(b"\x58" + b"\x66" * 31)), times(h, (P - x, y, 1, P - t)))
    x, y = x * pow(z, P - 2, P) % P, y * pow(z, P - 2, P) % P
    return len(signature) == 64 and s < L and (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]
def parse_vkey(line):  # C2SP: (name, key id, public key), or None
    name, key_id, text = (re.findall(r"^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$", line.strip()) or [("", "", "")])[0]
    data = base64.b64decode(text)
    good = len(data) == 33 and data[0] == 1 and sha(name.encode(), b"\n", data)[:4].hex() == key_id
    return (name, bytes.fromhex(key_id), data[1:]) if good else None
def open_checkpoint(note, key):  # C2SP: (size, root) where the key signed it, else None
    try:
        text, lines = note.decode("utf-8").rsplit("\n\n", 1)
        parts = [re.fullmatch("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+=*)", line).groups() for line in lines[:-1].split("\n")]
        own = [unbase64(data)[4:] for name, data in parts if name == key[0] and unbase64(data)[:4] == key[1]]
        origin, size, root = re.fullmatch(r"([^\n]+)\n(0|[1-9]\d{0,18})\n([^\n]+)", text).groups()
        good = (own and origin == key[0] and lines[-1] == "\n" and len(note) <= 65536 and len(parts) <= 64
                and all(verifies(key[2], text.encode() + b"\n", each) for each in own) and len(unbase64(root)) == 32)
        return (int(size), unbase64(root)) if good else None
    except (ValueError, AttributeError, TypeError, IndexError): return None
def tar_header(name, size):
    head = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0"
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail
def members(file):  # of the one archive that the format allows
    at, name, head = 0, "", ["README.md", "about.json", "keys/log.vkey", "checkpoint"]
    while name != "manifest.json":
        names, header = head[at:at + 1] or [f"entries/{at - 3:08d}.ndjson", "manifest.json"], file.read(512)
        size = int(header[124:135], 8) if re.fullmatch(rb"[0-7]{11}\0", header[124:136]) else 0
        name = next((each for each in names if tar_header(each, size) == header), None)
        data = file.read(size) if name and size <= MAX_BYTES else b""
        if name is None or len(data) < size or file.read(-size % 512) != bytes(-size % 512):
            refuse(f"{name or names[0]} is not there, too large, cut off, or not followed by zeros")
        yield name, data
        at += 1
    if file.read(1025) != bytes(1024): refuse("two empty blocks do not end the file")
def decode(e):
    size = struct.unpack(">I", e[34:38])[0] if len(e) >= 38 else -1
    return Entry(e[1], *struct.unpack(">QQ", e[2:18]), e[18:34], e[38:38 + size].decode("utf-8"), *struct.unpack(
        ">IQ16sQQ32s32s32s", e[38 + size:])) if e[:1] == b"\1" and len(e) == 178 + size else None
def root_of(subtrees):
    return functools.reduce(lambda right, left: sha(b"\1", left, right), reversed(subtrees)) if subtrees else sha()
def root_of_proof(leaf, fn, sn, proof):  # RFC 9162, section 2.1.3.2; fn: the entry, sn: the last one of the tree
    for each in proof:
        is_right = fn & 1 or fn == sn
        leaf = sha(b"\1", each, leaf) if is_right else sha(b"\1", leaf, each)
        while is_right and fn and not fn & 1: fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    return leaf if sn == 0 else None
def member(value, path):  # what stands there; a masked member stands for all below it
    return functools.reduce(lambda v, name: v if "masked" in obj(v) else obj(v).get(name), path.split(), value)
def millis(value):
    day, fraction, zone = re.fullmatch(r"([-\dT:]{19})(\.\d+)?(Z|[+-]\d\d:\d\d)", value).groups()
    at = datetime.datetime.fromisoformat(day + zone.replace("Z", "+00:00"))
    return int(at.timestamp()) * 1000 + int((fraction or ".").ljust(4, "0")[1:4])
def meets(name, wanted, data, at):  # as far as can be told without the mask key
    def may(value, one): return "masked" in obj(value) or isinstance(value, str) and value[:512] == one[:512]
    if name in ("from", "to"): return (at >= millis(wanted)) == (name == "from")
    if name == "chain":
        hops = member(data, "input agent chain")
        path = iter([member(hop, "id") for hop in items(hops)] + [hops, member(data, "input agent id")])
        return all(any(may(hop, one) for hop in path) for one in wanted)
    reasons = [member(reason, "code") for reason in items(member(data, "answer reasons"))]
    return any(may(value, wanted) for value in (reasons if name == "reason" else [member(data, WHERE.get(name, name))]))

class Verifier:
    def __init__(self, keys):
        self.keys, self.about, self.fails, self.digests, self.batch = keys, {}, {v: [] for v in VERDICTS}, {}, {}
        self.whole = self.ranged = self.newest = self.stored = self.leaf = self.first = self.last = self.start = None
        self.counts, self.sets = Counter(entries=0, payloads=0, gone=0, checkpoints=0), Counter()
        self.next, self.newest_us, self.missing, self.unnamed, self.allowed, self.gone_us = 0, 0, [], [], [], {}
    def check(self, good, verdict, where, what):
        if not good: self.fails[verdict].append(f"{where}: {what}")
        return good
    def run(self, file):
        head, listed, name = {}, [], "README.md"
        try:
            for name, data in members(file):
                if name == "manifest.json": self.finish(parse(data, MANIFEST), listed)
                elif name.startswith("entries/"):
                    for line in data[:-1].split(b"\n") if data.endswith(b"\n") else refuse("no end of a line"):
                        self.line(parse(line))
                else: head[name] = data
                listed.append(dict(name=name, bytes=str(len(data)), sha256=sha(data).hex()))
                if name == "checkpoint": self.begin(head)
            self.whole = True
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error) as error:
            self.check(False, "integrity", f"at or behind member {name}", f"not as the format says: {error!r}")
    def signed(self, note, size, where):
        found = open_checkpoint(note, self.key)
        good = self.check(found and found[0] == size, "authenticity", where, f"is no note of size {size} and this key")
        return found[1] if good else None
    def begin(self, head):
        self.about = about = parse(head["about.json"], ABOUT)
        self.size, start, asked = counter(about["size"]) or refuse("size"), about["start"], about["filter"]
        self.ranged = {"range": True, "filter": False}[about["scope"]]
        self.times = {name: millis(asked[name]) for name in ("from", "to") if name in asked}
        known = {"from", "to"} if self.ranged else {*WHERE, "from", "to", "chain", "reason", "request_id"}
        good = set(about["access"]) == {"log", "begun"} and set(start or {}) <= {"size", "subtrees", "checkpoint"}
        if self.ranged == (start is None) or set(asked) - known or not good: refuse("scope, start, filter or access")
        if any(isinstance(asked[name], str) == (name == "chain") for name in asked): refuse("filter")
        self.vkey = head["keys/log.vkey"].decode("utf-8", "replace").rstrip()
        named = parse_vkey(self.vkey)
        self.key = named if self.keys is None else self.keys.get(about["origin"])
        good = named and named[0] == about["origin"] and self.key == named
        self.check(good, "authenticity", "keys/log.vkey", "is not the log's key")
        self.newest = self.signed(head["checkpoint"], self.size, "checkpoint")
        if self.ranged:
            self.start, self.tree = counter(start["size"]), [unbase64(each) for each in start["subtrees"]]
            self.next = self.start
            if [len(each) for each in self.tree] != [32] * bin(self.start).count("1"): refuse("start is no tree")
            if self.start: self.grown((start["checkpoint"] or "").encode(), "start")
        self.recount()
    def grown(self, note, at):  # the note is of the tree as it is now
        root, self.stored = self.signed(note, self.next, at), (self.next, root_of(self.tree))
        self.check(root in (None, self.stored[1]), "append_only", at, "its checkpoint has another root")
    def recount(self):
        self.kinds, self.decisions, self.reasons, self.part, self.sealed = *map(Counter, [()] * 3), False, self.next
    def line(self, v):
        parts = [unbase64(v[key]) for key in ("entry", "salt", "payload") if key in v]
        seq, gone, proof = counter(v["seq"]), v.get("gone"), [unbase64(each) for each in v.get("proof", [])]
        if (("proof" in v) == self.ranged or "checkpoint" in v and not self.ranged or set(v) - LINE
                or len(parts) + ("content_type" in v) != (1 if "gone" in v else 4)
                or gone not in (None, "missing", "no_key", "unopened")):
            refuse("a line says too much, too little or nonsense")
        at, follows, stored, prev = f"entry {seq}", seq == self.next, self.stored, self.ranged and self.leaf
        self.check(follows or not self.ranged and seq > self.next, "integrity", at, f"entry {self.next} is expected")
        self.leaf, self.next = sha(b"\0", parts[0]), seq + 1
        self.counts.update(["entries", "gone" if gone else "payloads"] + ["checkpoints"] * ("checkpoint" in v))
        if self.ranged:
            node, size = self.leaf, self.start + self.counts["entries"] - 1
            while size & 1: node, size = sha(b"\1", self.tree.pop(), node), size >> 1
            self.tree.append(node)
            if "checkpoint" in v: self.grown(v["checkpoint"].encode("utf-8", "replace"), at)
        elif self.newest:
            good = seq < self.size and root_of_proof(self.leaf, seq, self.size - 1, proof) == self.newest
            self.check(good, "append_only", at, "its proof leads to another root")
        e = decode(parts[0])
        if not self.check(e, "integrity", at, "a malformed header"): return
        good = (not follows or prev in (None, False, e.prev)) and e.seq == seq and (e.kind == INCARNATION) == (seq == 0)
        self.check(good, "integrity", at, "its seq, its kind, or the hash of the entry before it")
        self.check(e.us + TOLERANCE_US >= self.newest_us, "clock", at, "was taken in before the one before it")
        self.first, self.last, self.newest_us = self.first or e, e, max(self.newest_us, e.us)
        self.sets["sha256:" + e.set.hex()] += e.kind == DECISION
        self.check(self.ranged or e.kind == DECISION, "projection", at, "is no decision")
        self.kinds[KINDS[e.kind] if 0 < e.kind < len(KINDS) else str(e.kind)] += e.kind != SEAL
        self.check(gone != "unopened", "integrity", at, "its payload did not open")
        if gone in ("missing", "no_key"):
            self.batch, self.gone_us[e.seq >> 16] = {e.us: (self.batch.get(e.us, [e.seq])[0], e.seq)}, e.us
            self.missing.append(e.seq)
        if gone or self.opened(e, at, stored, *parts[1:], v["content_type"]) is False:
            self.part = self.ranged and (self.part or e.kind == DECISION)
    def opened(self, e, at, stored, salt, payload, content_type):
        raw = sha(b"edict/raw/v1\0", salt, lp(content_type.encode()), lp(payload))
        if len(salt) != 32 or sha(b"edict/rec/v1\0", raw, sha()) != e.c:
            return self.check(False, "integrity", at, "does not commit to this payload")
        doc, is_event, event_id = obj(parse(payload)), content_type == EVENT, str(uuid.UUID(bytes=e.id))
        data, place = obj(doc.get("data")), obj(obj(doc.get("data")).get("emitter"))
        used = obj(data.get("policy")).get("set") if e.kind in (DECISION, 13) else None
        says = [doc.get("id"), data.get("tenant"), place.get("boot"), place.get("sequence"), doc.get("source"),
                place.get("id"), used or "sha256:" + "0" * 64, EVENTS.get(doc.get("type"))]
        has = [event_id, self.about["tenant"], str(e.boot), str(e.number), e.emitter.hex(), e.emitter.hex(),
               "sha256:" + e.set.hex(), e.kind]
        good = all(a == b or a is None and data.get("schema_version") != 1 for a, b in zip(says, has))
        own = content_type == OWN and e.kind in OWN_KINDS and not any(e.emitter + e.set) and not e.boot | e.number
        self.check(good if is_event else own, "integrity", at, "header and payload disagree")
        if e.seq == 0:
            old, this = obj(doc.get("previous")), (self.about["origin"], self.vkey)
            names = [lp(name.encode()) for name in (*this, old.get("origin", ""))]
            size, root = struct.pack(">Q", int(old.get("size", 0))), bytes.fromhex(old.get("root", "00" * 32))
            good = (doc["origin"], doc["vkey"]) == this and e.prev == sha(b"edict/genesis/v1\0", *names, size, root)
            self.check(good, "integrity", at, "is not the beginning of this log")
        if is_event and self.start == 0:
            stream, known = (e.emitter, e.boot), place.get("previous") if e.number > 1 else "0" * 64
            good = place.get("previous") == known == self.digests.get((stream, e.number - 1), known)
            self.check(good and (stream, e.number) not in self.digests, "completeness", at, "breaks its stream's links")
            self.digests[stream, e.number] = sha(payload).hex()
        if e.kind in (ERASURE, RETENTION): self.named(e, doc)
        if e.kind == SEAL and self.ranged: self.seal(doc, at, stored)
        if e.kind == DECISION and is_event:
            answer, when = obj(data.get("answer")), millis(doc["time"])
            good = answer.get("decision") in ("allow", "deny") and answer.get("decision_id") == event_id
            if good and self.ranged:
                self.decisions[answer["decision"]] += 1
                codes = [member(reason, "code") for reason in answer["reasons"][:256]]
                self.reasons.update("masked:" + code["masked"] if obj(code) else (code or "")[:512] for code in codes)
            for name, wanted in {} if self.ranged else self.about["filter"].items():
                self.check(good and meets(name, wanted, data, when), "projection", at, f"not what filter {name} asks")
    def named(self, e, doc):  # what an entry lets be gone: docs/ledger.md, "When a payload may be gone"
        spans = [counters(items(each)[:2]) for each in items(doc.get("ranges"))]
        spans = [tuple(each) for each in spans if len(each) == 2 and each[0] <= each[1] < e.seq < self.size]
        request, basis, days = (string(doc.get(name)) for name in ("request", "legal_basis", "period_days"))
        if e.kind == RETENTION:
            days = int(days) if re.fullmatch("[0-9]{1,6}", days) else -1
            good = days >= (0 if doc.get("below_floor") is True else FLOOR_DAYS) and all(
                a & 0xffff == 0 and b & 0xffff == 0xffff
                and self.gone_us.get(b >> 16, -1 << 64) + days * DAY_US <= e.us + TOLERANCE_US for a, b in spans)
        elif doc.get("reason") == "subject_erased_before":  # never was there: only of the batch directly before
            good, batch = True, self.batch.get(e.us, (1, 0))
            spans = [(max(a, batch[0]), min(b, batch[1])) for a, b in spans]
        else:
            people = {string(name) for name in items(doc.get("approvers"))} - {""}
            good = len(people) > 1 and re.fullmatch("[0-9a-f]{64}", request) and basis
        self.allowed += spans if good else []
    def seal(self, doc, at, stored):
        for name, found in dict(kinds=self.kinds, decisions=self.decisions, reasons=self.reasons).items():
            says, part = Counter({key: counter(count) for key, count in doc[name]}), self.part and name != "kinds"
            good = name == "reasons" and doc.get("cut") or (not found - says if part else +found == +says)
            self.check(good, "completeness", at, f"the seal counts other {name}: {dict(says)}, not {dict(found)}")
        self.check(doc["from"] == str(self.sealed), "completeness", at, f"the seal does not count from {self.sealed}")
        named = doc["checkpoint"] and (counter(doc["checkpoint"]["size"]), bytes.fromhex(doc["checkpoint"]["root"]))
        self.check(named == stored, "append_only", at, "the seal names another checkpoint before it")
        self.recount()
    def finish(self, manifest, listed):
        good = manifest["members"] == listed and manifest["counts"] == {name: str(n) for name, n in self.counts.items()}
        self.check(good, "integrity", "manifest.json", "lists other members, or other counts")
        sets, cut = {each["set"]: each["decisions"] for each in manifest["policies"]}, manifest["policies_cut"]
        good = set(sets) <= set(+self.sets) and all(sets.get(s, cut) in (True, str(n)) for s, n in (+self.sets).items())
        for each in manifest["policies"]:
            made = sha(b"edict/set/v1\0", *sorted(bytes.fromhex(digest[7:]) for digest in each["bundles"])).hex()
            good = good and (not each["bundles"] or each["set"] == "sha256:" + made) and len(each) == 3
        self.check(good, "integrity", "manifest.json", "lists other policies")
        spans = sorted(self.allowed)
        ends = [-1, *itertools.accumulate((last for _, last in spans), max)]  # how far those reach that begin before
        self.unnamed = [seq for seq in self.missing if seq > ends[bisect.bisect(spans, (seq, 1 << 64))]]
        if self.ranged:
            good = self.next == self.size and self.newest in (None, root_of(self.tree))
            self.check(good, "append_only", "entries", f"do not lead to the root of size {self.size}")
            self.check(self.last and self.last.kind == SEAL, "completeness", "the last entry", "is no seal")
            good = not self.start or self.first.us <= self.times.get("from", 1 << 60) * 1000 + TOLERANCE_US
            self.check(good, "completeness", "the first entry", "is younger than asked")
            self.check(self.start or not self.unnamed, "lifecycle", f"payloads {self.unnamed[:9]}", "may not be gone")
    def verdicts(self):
        self.check(self.newest_us <= time.time() * 1e6 + TOLERANCE_US, "clock", "the newest entry", "is of the future")
        good = dict(authenticity=self.newest and self.keys is not None, append_only=self.newest, integrity=1, clock=1,
                    projection=not self.ranged, completeness=self.ranged, lifecycle=not self.unnamed, freshness=0)
        return {v: "failed" if self.fails[v] else "ok" if self.whole and good[v] else "not_checked" for v in VERDICTS}
def main():
    parser = argparse.ArgumentParser(description="Checks an evidence bundle of an Edict ledger.")
    parser.add_argument("bundle", help="the file that edict audit export --format bundle wrote")
    parser.add_argument("--vkey", action="append", help="file with verifier keys of logs, as you hold them")
    given = parser.parse_args()
    try:
        keys = [parse_vkey(line) for path in given.vkey or [] for line in open(path, encoding="utf-8") if line.strip()]
        verifier = Verifier({key[0]: key for key in keys} if given.vkey else None)
        with open(given.bundle, "rb") as file: verifier.run(file)
    except (OSError, TypeError, ValueError) as error: return print(f"verify-ledger: {error}", file=sys.stderr) or 2
    print(ascii(verifier.about.get("origin")), *(f"{count} {name}" for name, count in verifier.counts.items()))
    for name, verdict in verifier.verdicts().items():
        print(f"  {name:13} {verdict:11} {ascii(''.join(verifier.fails[name][:1]))[1:-1]}")
    return 1 if any(verifier.fails.values()) else 0
if __name__ == "__main__": sys.exit(main())
