import { bytesEqual, fromHex, hex, sha256 } from '../../shared/contracts/bytes.ts';
import { counterOf } from '../../shared/contracts/counter.ts';
import { attestedKey, isEventSignedBy } from '../../shared/contracts/events.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { emitterId } from '../../shared/contracts/signatures.ts';
import {
  commitPayload,
  decodeEntry,
  ENTRY_KINDS,
  entryKindName,
  genesisHash,
  leafHash,
  segmentOf,
  type Entry,
} from './entry.ts';
import { comparePayload, KINDS_OF_GONE, type PayloadFacts } from './verify-event.ts';
import { carry, checkContinued, checkEnd } from './verify-continued.ts';
import { createGoneTracker, judgeGone } from './verify-gone.ts';
import { createFindings, type AttackClass, type Findings, type VerificationReport } from './verify-report.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import type { TreeNode } from './signing.ts';
import { createCheckpointChecker } from './verify-checkpoints.ts';
import type { KnownSize, StoredEntry, StoredPayload, VerifyInput } from './verify-input.ts';
import { compareSearch } from './verify-search.ts';
import { createStreamTracker } from './verify-streams.ts';
import { createStateChecker } from './verify-state.ts';
import type { Place } from './verify-place.ts';
import { numbersOf } from './verify-numbers.ts';
import { statementOf, timeOfEvent } from './verify-window.ts';
import { finishEnd, finishOrphans, reportOf, type Walk } from './verify-verdicts.ts';

/** States of a heartbeat behind which an emitter owes no more of them. */
const RESTING: ReadonlySet<unknown> = new Set(['idle', 'final']);
const ACCOUNTING: ReadonlySet<number> = new Set(
  (['gap', 'quarantine', 'conflict', 'emitter', 'lost'] as const).map((kind) => ENTRY_KINDS[kind]),
);
/** How much of a verification that is broken off is done again, at most; ms. */
const PLACE_EVERY_MS = 2_000;
/** How far ingest time may step back or stand ahead of this machine's clock. */
const CLOCK_TOLERANCE_US = 5_000_000n;

const failer =
  (walk: Walk, seq: bigint) =>
  (
    verdict: Parameters<Findings['fail']>[0],
    what: string,
    expected: string,
    actual: string,
    attack: AttackClass,
  ): void =>
    walk.findings.fail(verdict, { seq: String(seq), what, expected, actual, attack });

/** It must be the same log, of the same key, and still have the checkpoint up to which it was verified. */
const checkPlace = (walk: Walk): void => {
  const { from } = walk.input;
  if (from === undefined) return;
  const { size } = from.place.tree;
  const fail = failer(walk, size - 1n);
  // Entry 0, which proves it otherwise, is not read.
  const genesis = genesisHash(walk.input.log);
  if (!bytesEqual(genesis, from.place.genesis))
    fail('integrity', 'genesis hash of the log', hex(from.place.genesis), hex(genesis), 'log_relabelled');
  if (from.checkpoint !== undefined) walk.checkpoints.open(from.checkpoint);
  const what = `checkpoint of size ${size}, up to which it was verified on ${from.verifiedAt}`;
  if (from.checkpoint === undefined) fail('append_only', what, hex(from.place.root), 'none', 'checkpoint_removed');
  else if (!bytesEqual(from.checkpoint.root, from.place.root) || !bytesEqual(walk.tree.root(), from.place.root))
    fail('append_only', what, hex(from.place.root), hex(from.checkpoint.root), 'history_rewritten');
  checkEnd(walk.findings, walk.input.continued, walk.tree, size - 1n);
};

const placeOf = (walk: Walk, leaf: Uint8Array): Place => ({
  genesis: genesisHash(walk.input.log),
  tree: walk.tree.state(),
  root: walk.tree.root(),
  leaf,
  lastIngestUs: walk.lastIngestUs,
  keys: [...walk.keys],
  unattested: walk.unattested,
  streams: walk.streams.save(),
  state: walk.state?.save(),
  gone: walk.gone.save(),
  checkpoints: walk.checkpoints.save(),
});

/** Place, hash and link of one row. Returns the decoded header, or undefined when nothing more can be said. */
const checkHeader = (
  walk: Walk,
  row: StoredEntry,
): { readonly entry: Entry; readonly isIntact: boolean } | undefined => {
  const fail = failer(walk, row.seq);
  if (row.seq !== walk.next) {
    if (row.seq > walk.next)
      walk.findings.fail('integrity', {
        seq: String(walk.next),
        what: row.seq - walk.next === 1n ? 'entry' : `entries ${walk.next}–${row.seq - 1n}`,
        expected: 'present',
        actual: `missing: the next row is entry ${row.seq}`,
        attack: 'entry_removed',
      });
    else fail('integrity', 'seq', String(walk.next), String(row.seq), 'entry_inserted');
    walk.leaf = undefined;
  }
  walk.next = row.seq + 1n;
  walk.findings.count('integrity', 'entries');

  const leaf = leafHash(row.header);
  if (!bytesEqual(leaf, row.leaf)) fail('integrity', 'stored leaf hash', hex(leaf), hex(row.leaf), 'leaf_edited');
  const known = walk.knownLeaves.get(row.seq + 1n) ?? [];
  for (const { source, leaf: remembered } of known)
    if (remembered !== undefined && !bytesEqual(remembered, leaf))
      fail('append_only', `leaf hash, as ${source} has it`, hex(remembered), hex(leaf), 'history_rewritten');

  const before = walk.leaf;
  walk.leaf = leaf;
  walk.lastLeaf = leaf;
  walk.tree.add(leaf);
  walk.checkpoints.row(row, walk.tree, walk.completed.splice(0));
  checkEnd(walk.findings, walk.input.continued, walk.tree, row.seq);
  let entry: Entry;
  try {
    entry = decodeEntry(row.header);
  } catch (error) {
    fail('integrity', 'header', 'a well-formed entry', String(error), 'header_edited');
    return undefined;
  }
  if (entry.seq !== row.seq) fail('integrity', 'seq in header', String(row.seq), String(entry.seq), 'entry_moved');
  if (row.segment !== segmentOf(row.seq))
    fail('integrity', 'segment', String(segmentOf(row.seq)), String(row.segment), 'entry_moved');
  if ((row.seq === 0n) !== (entry.kind === ENTRY_KINDS.incarnation))
    fail(
      'integrity',
      'kind',
      row.seq === 0n ? 'incarnation at entry 0' : 'incarnation at entry 0 only',
      entryKindName(entry.kind) ?? String(entry.kind),
      'log_relabelled',
    );
  if (row.seq === 0n) {
    const genesis = genesisHash(walk.input.log);
    if (walk.input.isContinuationKnown !== false && !bytesEqual(genesis, entry.prev))
      fail('integrity', 'genesis hash of the log', hex(genesis), hex(entry.prev), 'log_relabelled');
  } else if (before !== undefined && !bytesEqual(before, entry.prev))
    fail('integrity', 'hash of the entry before', hex(before), hex(entry.prev), 'header_edited');

  walk.findings.count('clock', 'entries');
  if (entry.ingestUs + CLOCK_TOLERANCE_US < walk.lastIngestUs)
    fail('clock', 'ingest time µs', `at least ${walk.lastIngestUs}`, String(entry.ingestUs), 'time_shifted');
  if (entry.ingestUs > walk.lastIngestUs) walk.lastIngestUs = entry.ingestUs;
  return { entry, isIntact: bytesEqual(leaf, row.leaf) && entry.seq === row.seq };
};

const checkGenesis = (walk: Walk, row: StoredEntry, document: Readonly<Record<string, unknown>>): void => {
  const { origin, vkey, previous } = walk.input.log;
  const fail = failer(walk, row.seq);
  const compare = (what: string, expected: string, actual: unknown): void => {
    if (actual !== expected)
      fail('integrity', what, expected, typeof actual === 'string' ? actual : 'nothing', 'log_relabelled');
  };
  compare('origin in the first entry', origin, document['origin']);
  compare('verifier key in the first entry', vkey, document['vkey']);
  const before = isObject(document['previous']) ? document['previous'] : {};
  if (previous !== undefined) {
    compare('previous origin in the first entry', previous.origin, before['origin']);
    compare('previous size in the first entry', String(previous.size), before['size']);
    compare('previous root in the first entry', hex(previous.root), before['root']);
  } else if (isObject(document['previous']))
    fail('integrity', 'previous log in the first entry', 'none', String(before['origin']), 'log_relabelled');
};

/** Start, heartbeat and final events are signed; a start event brings the key along, and the id is its hash. */
const checkSignature = (walk: Walk, row: StoredEntry, entry: Entry, event: Readonly<Record<string, unknown>>): void => {
  const emitter = hex(entry.emitter);
  const what = `signature of emitter ${emitter}`;
  const fail = (): void =>
    failer(walk, row.seq)('authenticity', what, 'a good Ed25519 signature', 'a bad one or none', 'emitter_forged');
  if (event['type'] === 'edict.start.v1') {
    const key = attestedKey(event);
    if (key === undefined || emitterId(key) !== emitter) return fail();
    walk.keys.set(emitter, key);
  } else if (event['type'] === 'edict.heartbeat.v1') {
    const key = walk.keys.get(emitter);
    if (key === undefined) {
      walk.unattested += 1;
      return;
    }
    if (!isEventSignedBy(event, key)) return fail();
  } else return;
  walk.findings.count('authenticity', 'emitter_signatures');
};

const checkRecovered = (walk: Walk, entry: Entry, event: Readonly<Record<string, unknown>>): void => {
  const data = event['data'];
  const recovered = isObject(data) ? data['recovered'] : undefined;
  for (const item of Array.isArray(recovered) ? (recovered as readonly unknown[]) : []) {
    if (!isObject(item)) continue;
    const [boot, highest, digest] = [counterOf(item['boot']), counterOf(item['sequence']), item['digest']];
    if (boot === undefined || highest === undefined) continue;
    walk.streams.recovered(
      {
        source: 'a later heartbeat',
        emitter: hex(entry.emitter),
        boot,
        highest,
        ...(typeof digest === 'string' && /^[0-9a-f]{64}$/.test(digest) ? { digest: fromHex(digest) } : {}),
      },
      { seq: entry.seq, ingestUs: entry.ingestUs, timeMs: timeOfEvent(entry.eventId) },
    );
  }
};

const checkSearchRows = (walk: Walk, row: StoredEntry, entry: Entry, facts: PayloadFacts): void => {
  const expected =
    facts.isEvent && facts.document !== undefined ? walk.input.expectedSearch(entry, facts.document) : undefined;
  if (expected !== undefined) {
    walk.findings.count('projection', 'rows');
    walk.checkpoints.decision(expected);
  }
  for (const finding of compareSearch(row.seq, expected, row.search)) walk.findings.fail('projection', finding);
};

const checkOpened = (
  walk: Walk,
  row: StoredEntry,
  entry: Entry,
  opened: Extract<StoredPayload, { state: 'opened' }>,
): void => {
  const fail = failer(walk, row.seq);
  const { salt, contentType, payload } = opened;
  walk.findings.count('integrity', 'payloads');
  const commitment = salt.length === 32 ? commitPayload(salt, contentType, payload) : undefined;
  if (commitment === undefined || !bytesEqual(commitment, entry.commitment)) {
    fail(
      'integrity',
      'commitment to the payload',
      hex(entry.commitment),
      commitment === undefined ? 'malformed' : hex(commitment),
      'payload_edited',
    );
    // A header whose commitment is wrong still has its place in a stream; nothing else of this payload is evidence.
    return arrive(walk, entry);
  }
  const facts = comparePayload(entry, contentType, payload, walk.input.log.tenant);
  for (const { what, expected, actual } of facts.mismatches)
    fail('integrity', `${what} in header`, expected, actual, 'header_edited');
  checkSearchRows(walk, row, entry, facts);
  const { document } = facts;
  if (document === undefined) return arrive(walk, entry);
  if (row.seq === 0n) checkGenesis(walk, row, document);
  if (entry.kind === ENTRY_KINDS.seal) walk.checkpoints.seal(entry, document);
  walk.gone.there(entry);
  if (KINDS_OF_GONE.has(entry.kind)) walk.gone.named(entry, document);
  if (facts.isEvent) {
    const data = isObject(document['data']) ? document['data'] : {};
    const position = isObject(data['emitter']) ? data['emitter'] : {};
    const previous = position['previous'];
    const link = {
      digest: sha256(payload),
      previous: typeof previous === 'string' && /^[0-9a-f]{64}$/.test(previous) ? previous : undefined,
    };
    arrive(walk, entry, link, entry.kind === ENTRY_KINDS.heartbeat && RESTING.has(data['state']));
    walk.state?.event(entry, link, row.received);
    checkSignature(walk, row, entry, document);
    if (document['type'] === 'edict.heartbeat.v1') checkRecovered(walk, entry, document);
  }
  const numbers = numbersOf(entry, document, walk.input.log.tenant);
  walk.state?.payload(entry, document, numbers);
  for (const range of numbers.named) walk.streams.named(range.emitter, range.boot, range.from, range.to);
  carry(walk.streams, entry, numbers.carried);
  for (const { emitter, boot, number, digest } of numbers.wrapped)
    walk.streams.wrapped(emitter, boot, number, entry.seq, digest);
};

const arrive = (
  walk: Walk,
  entry: Entry,
  link?: { digest: Uint8Array; previous: string | undefined },
  isAtRest = false,
): void => {
  if (entry.emitterSeq === 0n) return;
  walk.streams.arrived({
    emitter: hex(entry.emitter),
    boot: entry.boot,
    number: entry.emitterSeq,
    seq: entry.seq,
    ingestUs: entry.ingestUs,
    timeMs: timeOfEvent(entry.eventId),
    isAtRest,
    ...(link === undefined ? {} : { link }),
  });
};

/** Whatever a hostile row makes the checks throw is a finding: it must not keep the rest from being read. */
const checkRow = (walk: Walk, row: StoredEntry): void => {
  try {
    checkParts(walk, row);
  } catch (error) {
    failer(walk, row.seq)(
      'integrity',
      'entry',
      'can be checked',
      `checking it fails: ${String(error)}`,
      'header_edited',
    );
  }
};

const checkParts = (walk: Walk, row: StoredEntry): void => {
  const header = checkHeader(walk, row);
  if (header === undefined) return;
  const { entry, isIntact } = header;
  walk.checkpoints.entry(entry);
  walk.state?.entry(entry, isIntact, row.received);
  const fail = failer(walk, row.seq);
  const { payload } = row;
  switch (payload.state) {
    case 'opened':
      return checkOpened(walk, row, entry, payload);
    case 'unopened':
      // A payload is bound to seq and event id: where the header was altered, that finding is there already.
      if (isIntact) fail('integrity', 'payload', 'opens with its key', 'AES-256-GCM refuses it', 'payload_edited');
      break;
    case 'missing':
    case 'no_key':
      if (!isIntact && payload.state === 'no_key') break;
      // Whether this was allowed is known at the end: the entry that names it comes later in the log.
      walk.gone.missing(entry);
      walk.streams.unread(entry);
      break;
    case 'withheld':
      walk.withheld += 1n;
      // Such an entry accounts for numbers that are not its own, and only its payload says for which.
      if (ACCOUNTING.has(entry.kind) && (entry.kind === ENTRY_KINDS.lost || entry.emitterSeq === 0n))
        walk.withheldAccounts += 1;
      // The first entry of a later incarnation says which numbers lie in the ones before it.
      if (row.seq === 0n && walk.input.isContinuationKnown === false) walk.withheldAccounts += 1;
      break;
    default:
      payload satisfies never;
  }
  arrive(walk, entry);
  walk.checkpoints.unread(entry);
  // Without its payload nothing can be said of a search row's columns, but two of them are one too many.
  if (row.search.length > 1) fail('projection', 'search rows', 'one', String(row.search.length), 'search_inserted');
};

/**
 * Reads one log from its first entry to its last and says what is wrong with it. Rejects only when reading does.
 * Pure but for the clock; memory grows with streams and holes, not with entries.
 */
export const verifyLog = async (input: VerifyInput): Promise<VerificationReport> => {
  const started = input.now();
  const findings = createFindings();
  const place = input.from?.place;
  const knownLeaves = new Map<bigint, KnownSize[]>();
  for (const known of input.known) knownLeaves.set(known.size, [...(knownLeaves.get(known.size) ?? []), known]);
  const completed: TreeNode[] = [];
  const walk: Walk = {
    findings,
    checkpoints: createCheckpointChecker(
      findings,
      input.log,
      input.newest,
      place === undefined ? undefined : { saved: place.checkpoints, size: place.tree.size, root: place.root },
    ),
    completed,
    streams: createStreamTracker(findings, { window: input.window, earlier: place?.streams }),
    state: input.tables === undefined ? undefined : createStateChecker(findings, input.tables, place?.state),
    input,
    keys: new Map([
      ...[...input.emitterKeys].filter(([id, key]) => key.length === 32 && emitterId(key) === id),
      ...(place?.keys ?? []),
    ]),
    gone: createGoneTracker(place?.gone),
    knownLeaves,
    next: place?.tree.size ?? 0n,
    leaf: place?.leaf,
    lastLeaf: place?.leaf,
    tree: createTreeHasher(place?.tree, (height, index, hash) => {
      if (height % 8 === 0) completed.push({ level: height / 8, index, hash });
    }),
    lastIngestUs: place?.lastIngestUs ?? 0n,
    unattested: place?.unattested ?? 0,
    withheld: 0n,
    withheldAccounts: 0,
  };
  checkPlace(walk);
  let savedAt = started;
  for await (const page of input.pages) {
    for (const row of page) {
      checkRow(walk, row);
      if (input.onPlace === undefined || row.checkpoint?.size !== walk.next || !findings.isEmpty()) continue;
      const isNewest = row.checkpoint.size === input.newest?.size;
      if (!isNewest && input.now() - savedAt < PLACE_EVERY_MS) continue;
      savedAt = input.now();
      if (walk.leaf !== undefined) input.onPlace(placeOf(walk, walk.leaf));
    }
    input.onProgress?.(walk.next, input.head.size);
  }
  finishEnd(walk);
  walk.state?.finish();
  if (input.continued !== undefined) checkContinued(findings, walk.streams, input.continued);
  const covered = walk.checkpoints.finish(walk.next);
  const elsewhere = (await input.goneElsewhere?.(covered.size)) ?? [];
  const unproven = judgeGone(findings, walk.gone, covered.size, elsewhere);
  input.onGoneOfEarlier?.(walk.gone.ofEarlier(covered.size));
  finishOrphans(walk, await input.orphans());
  const nowUs = BigInt(Math.floor(input.now())) * 1_000n;
  const streams = walk.streams.finish({
    nowUs,
    graceUs: BigInt(input.graceMs) * 1_000n,
    claims: [...input.claims, ...walk.checkpoints.claims()],
    areNamesKnown: walk.withheldAccounts === 0,
  });
  if (walk.lastIngestUs > nowUs + CLOCK_TOLERANCE_US)
    findings.fail('clock', {
      seq: null,
      what: 'newest ingest time µs',
      expected: `at most ${nowUs}, the time now`,
      actual: String(walk.lastIngestUs),
      attack: 'time_shifted',
    });
  const report = reportOf(walk, { started, covered, streams, unproven });
  if (input.window === undefined) return report;
  const statement = statementOf(input.window, {
    streams: walk.streams.streams(),
    covered,
    size: walk.next,
    nowUs,
    graceUs: BigInt(input.graceMs) * 1_000n,
    hasFailed: (verdict) => report.verdicts[verdict].status === 'failed',
  });
  return { ...report, statement };
};
