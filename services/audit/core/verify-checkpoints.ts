import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import { counterOf } from '../../shared/contracts/counter.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { parseVkey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint } from '../../shared/tlog/checkpoint.ts';
import { ENTRY_KINDS, entryKindName, type Entry } from './entry.ts';
import type { TreeHasher } from '../../shared/tlog/merkle.ts';
import type { TreeNode } from './signing.ts';
import type { LogFacts, StoredCheckpoint, StoredEntry } from './verify-input.ts';
import type { AttackClass, Findings, VerdictName } from './verify-report.ts';
import type { SearchColumns } from './verify-search.ts';
import type { StreamClaim } from './verify-streams.ts';

type Json = Readonly<Record<string, unknown>>;
type Counts = Map<string, bigint>;

/** What the checkpoints of a log prove in the end. */
export interface Covered {
  /** Entries below are in a tree that the log's key signed; 0 without a checkpoint. */
  readonly size: bigint;
  /** Ingest time of the seal that ends it. */
  readonly sealedUs: bigint;
  /** Absent without a checkpoint. */
  readonly note?: Uint8Array;
  /** Good checkpoints, smallest first; thinned out where there are many, the newest always among them. */
  readonly good: readonly GoodCheckpoint[];
}

export interface SavedCheckpoints {
  readonly covered: Omit<Covered, 'good'>;
  readonly streams: readonly StreamClaim[];
}

export interface GoodCheckpoint {
  readonly size: bigint;
  readonly root: Uint8Array;
}

const MAX_GOOD = 4_096;

export interface CheckpointChecker {
  /** The root that the log's key signed for this size; undefined, with a finding, when it signed none or another. */
  readonly open: (checkpoint: StoredCheckpoint) => Uint8Array | undefined;
  /** After the entry's leaf was added to `tree`; `nodes`: the hashes of tiles that it completed. */
  readonly row: (row: StoredEntry, tree: TreeHasher, nodes: readonly TreeNode[]) => void;
  /** A header that could be decoded, before its payload is looked at. */
  readonly entry: (entry: Entry) => void;
  /** The search row of a decision: what a seal counts. */
  readonly decision: (search: SearchColumns) => void;
  /** Its payload is gone: what a seal counts can only be more than what is left. */
  readonly unread: (entry: Entry) => void;
  readonly seal: (entry: Entry, document: Json) => void;
  /** What seals say of streams: these numbers were complete. */
  readonly claims: () => readonly StreamClaim[];
  /** What is covered so far; kept when the row at hand ends a checkpoint, as there the counts since a seal are empty. */
  readonly save: () => SavedCheckpoints;
  /** After the last row: the newest checkpoint may be of a longer log. */
  readonly finish: (size: bigint) => Covered;
}

const add = (counts: Counts, name: string, by = 1n): void => {
  counts.set(name, (counts.get(name) ?? 0n) + by);
};

/** `[[name, count], …]`; undefined for anything else. */
const countsIn = (value: unknown): Counts | undefined => {
  if (!Array.isArray(value)) return undefined;
  const counts: Counts = new Map();
  for (const pair of value as readonly unknown[]) {
    const [name, text] = Array.isArray(pair) ? (pair as readonly unknown[]) : [];
    const count = counterOf(text);
    if (typeof name !== 'string' || count === undefined || counts.has(name)) return undefined;
    counts.set(name, count);
  }
  return counts;
};

const shown = (counts: Counts): string =>
  [...counts].map(([name, count]) => `${name} ${count}`).join(', ') || 'nothing';

/** The first name whose counts do not fit: they must be equal, or, `isPart`, no more than what is sealed. */
const difference = (found: Counts, sealed: Counts, isPart: boolean): string | undefined =>
  [...new Set([...found.keys(), ...sealed.keys()])].find((name) => {
    const [has, says] = [found.get(name) ?? 0n, sealed.get(name) ?? 0n];
    return isPart ? has > says : has !== says;
  });

/** The key in a row of the database, which may hold anything. */
const keyOf = (vkey: string): VerifierKey | undefined => {
  try {
    return parseVkey(vkey);
  } catch {
    return undefined;
  }
};

/** Whether the note in a row of the database, which may hold anything, is the log's own checkpoint of that size. */
export const isOwnCheckpoint = ({
  vkey,
  size,
  note,
}: {
  readonly vkey: string;
  readonly size: bigint;
  readonly note: Uint8Array;
}): boolean => {
  const key = keyOf(vkey);
  return key !== undefined && openCheckpoint(note, key)?.size === size;
};

/**
 * Compares a log with its checkpoints, its seals with what they count, and the stored hashes of tiles with the tree. A
 * checkpoint that its key did not sign is a matter of authenticity; a signed one that the entries do not have, of
 * append_only. `start`: the checkpoint right before the first row, where that is not entry 0.
 */
export const createCheckpointChecker = (
  findings: Findings,
  log: Pick<LogFacts, 'vkey'>,
  newest: StoredCheckpoint | undefined,
  start?: { readonly size: bigint; readonly root: Uint8Array; readonly saved?: SavedCheckpoints },
): CheckpointChecker => {
  const key = keyOf(log.vkey);
  const streams = new Map<string, StreamClaim>(
    start?.saved?.streams.map((claim) => [`${claim.emitter}/${claim.boot}`, claim]),
  );
  let covered: Omit<Covered, 'good'> = start?.saved?.covered ?? { size: 0n, sealedUs: 0n };
  let good: GoodCheckpoint[] = start?.saved === undefined ? [] : [{ size: start.size, root: start.root }];
  /** The newest checkpoint so far, and the one before the row at hand: a seal is written before its own. */
  let stored: { readonly size: bigint; readonly root: Uint8Array } | undefined = start;
  let before: { readonly size: bigint; readonly root: Uint8Array } | undefined;
  // Since the seal before.
  let from = start?.size ?? 0n;
  let kinds: Counts = new Map();
  let decisions: Counts = new Map();
  let reasons: Counts = new Map();
  let isPart = false;

  const fail = (
    verdict: VerdictName,
    seq: bigint,
    what: string,
    expected: string,
    actual: string,
    attack: AttackClass,
  ): void => findings.fail(verdict, { seq: String(seq), what, expected, actual, attack });

  /** What is counted from here on stands in the next seal. */
  const begin = (seq: bigint): void => {
    from = seq;
    [kinds, decisions, reasons, isPart] = [new Map(), new Map(), new Map(), false];
  };

  const open = ({ size, root, note }: StoredCheckpoint): Uint8Array | undefined => {
    findings.count('authenticity', 'checkpoints');
    const signed = key === undefined ? undefined : openCheckpoint(note, key);
    if (signed?.size === size && bytesEqual(signed.root, root)) return signed.root;
    const says = signed === undefined ? 'no such note' : `size ${signed.size}, root ${hex(signed.root)}`;
    const expected = `size ${size}, root ${hex(root)}, signed by the log’s key`;
    fail('authenticity', size - 1n, `checkpoint of size ${size}`, expected, says, 'checkpoint_forged');
    return undefined;
  };

  const compareNodes = (row: StoredEntry, nodes: readonly TreeNode[]): void => {
    if (newest === undefined || row.seq >= newest.size) return;
    for (const { level, index, hash } of nodes) {
      findings.count('integrity', 'tile_hashes');
      const found = row.nodes?.find((node) => node.level === level && node.index === index);
      if (found !== undefined && bytesEqual(found.hash, hash)) continue;
      const actual = found === undefined ? 'missing' : hex(found.hash);
      fail('integrity', row.seq, `hash ${index} of tile level ${level}`, hex(hash), actual, 'tile_edited');
    }
  };

  const compareCheckpointOf = (entry: Entry, named: unknown): void => {
    const size = isObject(named) ? counterOf(named['size']) : undefined;
    const root = isObject(named) ? named['root'] : undefined;
    const says = size === undefined ? 'none' : `size ${size}, root ${String(root)}`;
    const has = before === undefined ? 'none' : `size ${before.size}, root ${hex(before.root)}`;
    if (says !== has)
      fail('append_only', entry.seq, 'newest checkpoint, as the seal names it', says, has, 'checkpoint_removed');
  };

  const compareCounts = (entry: Entry, document: Json): void => {
    const pairs = [
      { what: 'entries by kind', found: kinds, sealed: countsIn(document['kinds']), part: false },
      { what: 'decisions', found: decisions, sealed: countsIn(document['decisions']), part: isPart },
      { what: 'reasons', found: reasons, sealed: countsIn(document['reasons']), part: isPart },
    ];
    for (const { what, found, sealed, part } of pairs) {
      if (what === 'reasons' && document['cut'] === true) continue;
      findings.count('completeness', 'sealed_counts');
      if (sealed === undefined || difference(found, sealed, part) !== undefined)
        fail(
          'completeness',
          entry.seq,
          `${what} since entry ${from}, as the seal counts them`,
          sealed === undefined ? 'counts' : shown(sealed),
          shown(found),
          'seal_wrong',
        );
    }
    if (document['from'] !== String(from))
      fail(
        'completeness',
        entry.seq,
        'first entry that the seal counts',
        String(from),
        String(document['from']),
        'seal_wrong',
      );
  };

  return {
    open,
    row: (row, tree, nodes) => {
      compareNodes(row, nodes);
      before = stored;
      const { checkpoint } = row;
      if (checkpoint === undefined) return;
      stored = checkpoint;
      const root = open(checkpoint);
      if (root === undefined) return;
      const actual = tree.root();
      if (tree.size() === checkpoint.size && bytesEqual(root, actual)) {
        covered = { size: checkpoint.size, sealedUs: 0n, note: checkpoint.note };
        good.push({ size: checkpoint.size, root });
        if (good.length > MAX_GOOD) good = good.filter((_, index) => index % 2 === 0);
      } else
        fail(
          'append_only',
          row.seq,
          `root at size ${checkpoint.size}, as the log’s key signed it`,
          hex(root),
          hex(actual),
          'history_rewritten',
        );
    },
    entry: (entry) => {
      if (covered.size === entry.seq + 1n) covered = { ...covered, sealedUs: entry.ingestUs };
      if (entry.kind === ENTRY_KINDS.seal) return;
      add(kinds, entryKindName(entry.kind) ?? String(entry.kind));
    },
    unread: (entry) => {
      if (entry.kind === ENTRY_KINDS.decision) isPart = true;
      if (entry.kind === ENTRY_KINDS.seal) begin(entry.seq + 1n);
    },
    decision: (search) => {
      add(decisions, String(search['decision']));
      const codes = search['reasons'];
      for (const code of Array.isArray(codes) ? (codes as readonly unknown[]) : []) add(reasons, String(code));
    },
    seal: (entry, document) => {
      compareCounts(entry, document);
      compareCheckpointOf(entry, document['checkpoint']);
      for (const item of Array.isArray(document['emitters']) ? (document['emitters'] as readonly unknown[]) : []) {
        if (!isObject(item)) continue;
        const [emitter, boot, complete] = [item['emitter'], counterOf(item['boot']), counterOf(item['complete_to'])];
        if (typeof emitter !== 'string' || boot === undefined || complete === undefined) continue;
        streams.set(`${emitter}/${boot}`, { source: 'a seal', emitter, boot, highest: complete });
      }
      begin(entry.seq + 1n);
    },
    save: () => ({ covered, streams: [...streams.values()] }),
    claims: () => [...streams.values()].filter(({ highest }) => highest > 0n),
    finish: (size) => {
      if (newest !== undefined && newest.size > size && open(newest) !== undefined)
        fail(
          'append_only',
          size,
          'size of the log, as its key signed it',
          `at least ${newest.size}`,
          String(size),
          'tail_truncated',
        );
      return { ...covered, good };
    },
  };
};

/** What is signed of a log of `size` entries, for a person. */
export const coverage = (covered: Covered, size: bigint): string =>
  covered.size === 0n
    ? 'not checkpointed yet: whoever can rewrite the whole database from an entry on, hashes included, is not found ' +
      'by what lies in the database alone'
    : `signed with the log’s key up to entry ${covered.size - 1n}` +
      (size > covered.size ? `; the ${size - covered.size} after it are not signed yet` : '');

export const age = (covered: Covered): string =>
  covered.size === 0n
    ? 'no checkpoint yet whose age could be told'
    : `the newest checkpoint was sealed at ${new Date(Number(covered.sealedUs / 1_000n)).toISOString()} by the ledger’s own clock`;
