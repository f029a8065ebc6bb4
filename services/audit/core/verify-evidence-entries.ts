import { bytesEqual, fromHex, hex, sha256 } from '../../shared/contracts/bytes.ts';
import { digestText } from '../../shared/contracts/bundle-digest.ts';
import { counterOf } from '../../shared/contracts/counter.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { formatVkey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import { rootOfInclusion } from '../../shared/tlog/proofs.ts';
import { canonicalBase64 } from '../../shared/tlog/signed-note.ts';
import { commitPayload, decodeEntry, ENTRY_KINDS, genesisHash, leafHash, type Entry } from './entry.ts';
import { unmetFilter } from './evidence-filter.ts';
import { evidenceInvalid, type EvidenceAbout, type EvidenceLine, type EvidenceManifest } from './evidence-format.ts';
import { describeDecision } from './ingest-search.ts';
import { createCheckpointChecker } from './verify-checkpoints.ts';
import { carry } from './verify-continued.ts';
import { comparePayload, KINDS_OF_GONE, type PayloadFacts } from './verify-event.ts';
import { CLOCK_TOLERANCE_US, createEvidenceEnd, type EvidenceEnd } from './verify-evidence-end.ts';
import { numbersOf } from './verify-numbers.ts';
import type { AttackClass, Findings, VerdictName } from './verify-report.ts';
import { createStreamTracker } from './verify-streams.ts';
import { timeOfEvent } from './verify-window.ts';

export interface EntryCheckerOptions {
  readonly findings: Findings;
  readonly about: EvidenceAbout;
  /** Of the tree that the newest checkpoint signs. */
  readonly size: bigint;
  /** `range` only. */
  readonly start:
    { readonly size: bigint; readonly root: Uint8Array; readonly subtrees: readonly Uint8Array[] } | undefined;
  readonly key: VerifierKey | undefined;
  /** The verifier key line as the bundle has it. */
  readonly vkey: string;
  /** Undefined when its signature is not good. */
  readonly newest: Checkpoint | undefined;
  /** True when the auditor brought the key. */
  readonly isOwnKey: boolean;
}

export interface EntryChecker {
  /** Throws `evidence_invalid` for a line that says too much, too little or nonsense. */
  readonly line: (line: EvidenceLine, member: string) => void;
  readonly counts: () => Readonly<Record<keyof EvidenceManifest['counts'], bigint>>;
  /** Decisions by policy set, as the headers name it. */
  readonly policies: () => ReadonlyMap<string, bigint>;
  readonly lastLeaf: () => string | null;
  readonly verdicts: EvidenceEnd['verdicts'];
}

type Opened = { readonly salt: Buffer; readonly contentType: string; readonly payload: Buffer };

/** The parts of a line, decoded. */
const readLine = (line: EvidenceLine, member: string, isRange: boolean) => {
  const at = `line of entry ${line.seq.slice(0, 20)}`;
  const bad = (why: string): never => {
    throw evidenceInvalid(member, `${at}: ${why}`);
  };
  const bytes = (text: string): Buffer => canonicalBase64(text) ?? bad('not base64 in its one spelling');
  const seq = counterOf(line.seq) ?? bad('seq is no number');
  const { salt, content_type: contentType, payload, gone, proof, checkpoint } = line;
  if ((proof === undefined) !== isRange) return bad('a proof is there in the scope filter, and only there');
  if (checkpoint !== undefined && !isRange) return bad('a checkpoint is there in the scope range only');
  let opened: Opened | undefined;
  if (salt !== undefined && contentType !== undefined && payload !== undefined && gone === undefined)
    opened = { salt: bytes(salt), contentType, payload: bytes(payload) };
  else if (salt !== undefined || contentType !== undefined || payload !== undefined || gone === undefined)
    return bad('it has neither a payload nor says that it is gone, or both');
  else if (!['missing', 'no_key', 'unopened'].includes(gone)) return bad('gone is none of missing, no_key, unopened');
  return {
    seq,
    header: bytes(line.entry),
    opened,
    gone,
    proof: proof?.map(bytes),
    note: checkpoint === undefined ? undefined : Buffer.from(checkpoint, 'utf8'),
  };
};

/** Checks the entries of a bundle one by one. */
export const createEntryChecker = (options: EntryCheckerOptions): EntryChecker => {
  const { findings, about, size, start, key, newest } = options;
  const isRange = start !== undefined;
  const tree = createTreeHasher(start);
  const vkey = key === undefined ? '' : formatVkey(key.name, key.publicKey);
  const checkpoints = createCheckpointChecker(
    findings,
    { vkey },
    undefined,
    start === undefined || start.size === 0n ? undefined : start,
  );
  /** Numbers of emitters can be followed from the log's first entry only. */
  const streams = start?.size === 0n ? createStreamTracker(findings) : undefined;
  const end = createEvidenceEnd({ ...options, checkpoints, streams, tree });
  const counts = { entries: 0n, payloads: 0n, gone: 0n, checkpoints: 0n };
  const policies = new Map<string, bigint>();
  let next = start?.size ?? 0n;
  let lastLeaf: Uint8Array | undefined;
  let lastIngestUs = 0n;

  const failer =
    (seq: bigint) =>
    (verdict: VerdictName, what: string, expected: string, actual: string, attack: AttackClass): void =>
      findings.fail(verdict, { seq: String(seq), what, expected, actual, attack });

  /** Its place among the others; whether it follows the one before it. */
  const checkPlace = (seq: bigint): boolean => {
    const fail = failer(seq);
    const isNext = seq === next;
    if (isRange && seq > next)
      findings.fail('integrity', {
        seq: String(next),
        what: seq - next === 1n ? 'entry' : `entries ${next}–${seq - 1n}`,
        expected: 'present',
        actual: `missing: the next line is entry ${seq}`,
        attack: 'entry_removed',
      });
    else if (seq < next) fail('integrity', 'seq', `at least ${next}`, String(seq), 'entry_inserted');
    next = seq + 1n;
    return isNext;
  };

  const checkProof = (seq: bigint, leaf: Uint8Array, proof: readonly Uint8Array[]): void => {
    if (newest === undefined) return;
    findings.count('append_only', 'proofs');
    const root = rootOfInclusion(leaf, seq, size, proof);
    if (root !== undefined && bytesEqual(root, newest.root)) return;
    const actual = root === undefined ? 'no proof for this place' : hex(root);
    failer(seq)(
      'append_only',
      `root of size ${size}, as the proof makes it`,
      hex(newest.root),
      actual,
      'history_rewritten',
    );
  };

  const checkGenesis = (entry: Entry, document: Readonly<Record<string, unknown>>): void => {
    const fail = failer(entry.seq);
    const { origin, vkey: line, previous } = document;
    if (origin !== about.origin)
      fail('integrity', 'origin in the first entry', about.origin, String(origin), 'log_relabelled');
    if (line !== options.vkey)
      fail('integrity', 'verifier key in the first entry', options.vkey, String(line), 'log_relabelled');
    const before = isObject(previous) ? previous : undefined;
    const genesis = genesisHash({
      origin: about.origin,
      vkey: options.vkey,
      ...(before === undefined
        ? {}
        : {
            previous: {
              origin: String(before['origin']),
              size: counterOf(before['size']) ?? 0n,
              root: fromHex(String(before['root'])),
            },
          }),
    });
    if (!bytesEqual(genesis, entry.prev))
      fail('integrity', 'genesis hash of the log', hex(genesis), hex(entry.prev), 'log_relabelled');
  };

  const checkHeader = (seq: bigint, header: Buffer, before: Uint8Array | undefined): Entry | undefined => {
    const fail = failer(seq);
    let entry: Entry;
    try {
      entry = decodeEntry(header);
    } catch (error) {
      fail('integrity', 'header', 'a well-formed entry', String(error), 'header_edited');
      return undefined;
    }
    if (entry.seq !== seq) fail('integrity', 'seq in header', String(seq), String(entry.seq), 'entry_moved');
    if ((seq === 0n) !== (entry.kind === ENTRY_KINDS.incarnation))
      fail('integrity', 'kind', 'incarnation at entry 0 only', String(entry.kind), 'log_relabelled');
    if (before !== undefined && !bytesEqual(before, entry.prev))
      fail('integrity', 'hash of the entry before', hex(before), hex(entry.prev), 'header_edited');
    findings.count('clock', 'entries');
    if (entry.ingestUs + CLOCK_TOLERANCE_US < lastIngestUs)
      fail('clock', 'ingest time µs', `at least ${lastIngestUs}`, String(entry.ingestUs), 'time_shifted');
    if (entry.ingestUs > lastIngestUs) lastIngestUs = entry.ingestUs;
    return entry;
  };

  const arrive = (
    entry: Entry,
    link?: { readonly digest: Uint8Array; readonly previous: string | undefined },
  ): void => {
    if (entry.emitterSeq === 0n) return;
    streams?.arrived({
      emitter: hex(entry.emitter),
      boot: entry.boot,
      number: entry.emitterSeq,
      seq: entry.seq,
      ingestUs: entry.ingestUs,
      timeMs: timeOfEvent(entry.eventId),
      // What a silence means is asked of a ledger, not of a bundle.
      isAtRest: false,
      ...(link === undefined ? {} : { link }),
    });
  };

  const followStream = (entry: Entry, { isEvent, document }: PayloadFacts, payload: Uint8Array): void => {
    const data = document?.['data'];
    const position = isObject(data) && isObject(data['emitter']) ? data['emitter'] : {};
    const { previous } = position;
    const isDigest = typeof previous === 'string' && /^[0-9a-f]{64}$/.test(previous);
    if (isEvent && document !== undefined)
      arrive(entry, { digest: sha256(payload), previous: isDigest ? previous : undefined });
    else arrive(entry);
    if (streams === undefined || document === undefined) return;
    const numbers = numbersOf(entry, document, about.tenant);
    for (const range of numbers.named) streams.named(range.emitter, range.boot, range.from, range.to);
    carry(streams, entry, numbers.carried);
    for (const { emitter, boot, number, digest } of numbers.wrapped)
      streams.wrapped(emitter, boot, number, entry.seq, digest);
  };

  const checkDecision = (entry: Entry, event: Readonly<Record<string, unknown>>): void => {
    const { data, time } = event;
    const eventId = bytesToUuid(entry.eventId);
    if (!isRange) {
      findings.count('projection', 'decisions');
      const unmet = unmetFilter(about.filter, event, eventId, about.tenant);
      if (unmet === undefined) return;
      const wanted = JSON.stringify(about.filter[unmet] ?? 'allow or deny');
      return failer(entry.seq)('projection', `filter ${unmet}`, wanted, 'another value in the event', 'search_edited');
    }
    const timeMs = typeof time === 'string' ? Date.parse(time) : Number.NaN;
    const search = isObject(data) ? describeDecision(data, eventId, timeMs, about.tenant)?.search : undefined;
    if (search !== undefined && !Number.isNaN(timeMs))
      checkpoints.decision({ decision: search.decision, reasons: search.reasons });
  };

  const checkOpened = (entry: Entry, { salt, contentType, payload }: Opened): void => {
    const fail = failer(entry.seq);
    findings.count('integrity', 'payloads');
    const commitment = salt.length === 32 ? commitPayload(salt, contentType, payload) : undefined;
    if (commitment === undefined || !bytesEqual(commitment, entry.commitment)) {
      const actual = commitment === undefined ? 'malformed' : hex(commitment);
      fail('integrity', 'commitment to the payload', hex(entry.commitment), actual, 'payload_edited');
      checkpoints.unread(entry);
      return arrive(entry);
    }
    const facts = comparePayload(entry, contentType, payload, about.tenant);
    for (const { what, expected, actual } of facts.mismatches)
      fail('integrity', `${what} in header`, expected, actual, 'header_edited');
    const { document, isEvent } = facts;
    if (document !== undefined) {
      if (entry.seq === 0n) checkGenesis(entry, document);
      if (entry.kind === ENTRY_KINDS.decision && isEvent) checkDecision(entry, document);
      if (entry.kind === ENTRY_KINDS.seal && isRange) checkpoints.seal(entry, document);
      if (KINDS_OF_GONE.has(entry.kind)) end.named(entry, document);
    }
    followStream(entry, facts, payload);
  };

  return {
    line: (line, member) => {
      const { seq, header, opened, gone, proof, note } = readLine(line, member, isRange);
      counts.entries += 1n;
      findings.count('integrity', 'entries');
      const before = checkPlace(seq) && isRange ? lastLeaf : undefined;
      const leaf = leafHash(header);
      lastLeaf = leaf;
      if (isRange) tree.add(leaf);
      if (proof !== undefined) checkProof(seq, leaf, proof);
      const root = note === undefined || key === undefined ? undefined : openCheckpoint(note, key)?.root;
      const checkpoint = note === undefined ? undefined : { size: seq + 1n, root: root ?? tree.root(), note };
      if (checkpoint !== undefined) counts.checkpoints += 1n;
      if (isRange)
        checkpoints.row(
          {
            seq,
            segment: 0,
            header,
            leaf,
            payload: { state: 'missing' },
            search: [],
            ...(checkpoint === undefined ? {} : { checkpoint }),
          },
          tree,
          [],
        );
      const entry = checkHeader(seq, header, before);
      if (opened === undefined) counts.gone += 1n;
      else counts.payloads += 1n;
      if (entry === undefined) return;
      end.entry(entry);
      if (isRange) checkpoints.entry(entry);
      if (entry.kind === ENTRY_KINDS.decision) {
        const set = digestText(entry.policySetDigest);
        policies.set(set, (policies.get(set) ?? 0n) + 1n);
      } else if (!isRange) failer(seq)('projection', 'kind', 'a decision', String(entry.kind), 'search_edited');
      if (opened !== undefined) return checkOpened(entry, opened);
      if (gone === 'unopened')
        failer(seq)('integrity', 'payload', 'opens with its key', 'it did not open in the ledger', 'payload_edited');
      else end.gone(entry);
      arrive(entry);
      checkpoints.unread(entry);
    },
    counts: () => counts,
    policies: () => policies,
    lastLeaf: () => (lastLeaf === undefined ? null : hex(lastLeaf)),
    verdicts: end.verdicts,
  };
};
