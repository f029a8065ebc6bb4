import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import type { Log } from './append.ts';
import { openCheckpoint } from '../../shared/tlog/checkpoint.ts';
import {
  commitPayload,
  decodeEntry,
  ENTRY_KINDS,
  genesisHash,
  leafHash,
  segmentOf,
  type Entry,
  type Genesis,
} from './entry.ts';
import { createTreeHasher, type TreeState } from '../../shared/tlog/merkle.ts';
import { KINDS_OF_GONE, parseObject } from './verify-event.ts';
import { createGoneTracker } from './verify-gone.ts';
import type { StoredEntry, StoredPayload } from './verify-input.ts';

/** A log as the database shows it to the signer. */
export interface SignableLog extends Log {
  readonly incarnation: number;
  readonly vkey: string;
  readonly genesis: Genesis;
  readonly head: { readonly size: bigint; readonly leaf: Uint8Array };
  /** How many entries there are up to the newest seal, with it; 0 before the first. */
  readonly sealedSize: bigint;
  /** The largest checkpoint. */
  readonly checkpoint?: { readonly size: bigint; readonly note: Uint8Array };
}

/** One row as the signer reads it. */
export type SignedRow = Pick<StoredEntry, 'seq' | 'segment' | 'header' | 'leaf'> & { readonly payload: StoredPayload };

/** The hash of a full subtree as tiles hold it: of 256^level entries. */
export interface TreeNode {
  readonly level: number;
  readonly index: bigint;
  readonly hash: Uint8Array;
}

export interface NewCheckpoint {
  readonly size: bigint;
  readonly root: Uint8Array;
  readonly note: Uint8Array;
  /** Level 1 and above, of the entries that this checkpoint covers and the one before did not. */
  readonly nodes: readonly TreeNode[];
  readonly signedUs: bigint;
}

/** What planning needs to know of a tree: a tenant's log, or the meta log. */
export type SignableTree = Pick<SignableLog, 'origin' | 'tenant' | 'incarnation' | 'vkey' | 'head' | 'checkpoint'> & {
  /** As far as it may be signed. */
  readonly sealedSize: bigint;
};

/** Why a log is not signed. */
export interface SigningAlarm {
  readonly alarm:
    /** The database is behind what was signed: `edict ledger resume` goes on after a restore. */
    | 'log_rewound'
    /** The database has other entries than what was signed, or goes on from others. */
    | 'log_forked'
    /** A row does not fit its hash, its place or its neighbours, or a payload its commitment. */
    | 'row_damaged'
    /** The log names another verifier key than that of the signer's private key. */
    | 'key_mismatch'
    /** The newest checkpoint in the database was not made with the log's key. */
    | 'checkpoint_forged'
    /** The database has lost the newest checkpoint; the signer puts it back. */
    | 'checkpoint_removed'
    /** The signer's own file cannot be believed. */
    | 'memory_unreadable';
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

/** Where the signer reads and writes: the database under its own role; embedded: through the audit service. */
export interface SigningStore {
  /** The newest incarnation of every log. */
  readonly logs: () => Promise<readonly SignableLog[]>;
  /** The first rows from `from` on and below `to`, with payloads opened; how many is the store's to say, at least one. */
  readonly rows: (log: SignableLog, from: bigint, to: bigint) => Promise<readonly SignedRow[]>;
  /** Stored again it changes nothing. */
  readonly store: (logId: number, checkpoint: NewCheckpoint) => Promise<void>;
  readonly raise: (logId: number, alarm: RaisedAlarm) => Promise<void>;
}

/** A witness has seen another tree of the meta log than this one, or a larger one. */
export type WitnessAlarm = 'meta_split_view' | 'meta_witness_ahead';

/** An alarm as it is stored. Those of the meta log have `meta_` before their names, and the system tenant's log. */
export interface RaisedAlarm extends Omit<SigningAlarm, 'alarm'> {
  readonly alarm: SigningAlarm['alarm'] | `meta_${SigningAlarm['alarm']}` | WitnessAlarm;
  readonly signedSize: bigint;
  readonly raisedUs: bigint;
  /** The largest checkpoint, for whoever goes on after a restore. */
  readonly note?: Uint8Array;
}

/** A tree of which every row was read and hashed, and which is stored as a checkpoint. */
export interface CheckedTree extends TreeState {
  /** The leaf of entry size - 1; empty while there is none. */
  readonly leaf: Uint8Array;
}

/** What the signer remembers of a log, outside the database. */
export interface SigningMemory {
  readonly origin: string;
  /** Where the next reading begins. */
  readonly base: CheckedTree;
  /** The largest tree that was signed, or was about to be when the signer died: no other of its size ever is. */
  readonly signed: { readonly size: bigint; readonly root: Uint8Array };
}

export const NOTHING_CHECKED: CheckedTree = { size: 0n, subtrees: [], leaf: new Uint8Array() };

/** Rows to be read before a checkpoint of size `to` may be signed. */
export interface SigningPlan {
  readonly from: CheckedTree;
  readonly to: bigint;
  /** Roots that the tree must have on its way. */
  readonly known: readonly { readonly size: bigint; readonly root: Uint8Array; readonly what: string }[];
}

const alarm = (
  name: SigningAlarm['alarm'],
  what: string,
  expected: bigint | string,
  actual: bigint | string,
): { readonly alarm: SigningAlarm } => ({
  alarm: { alarm: name, what, expected: String(expected), actual: String(actual) },
});

/** What is to be read of a log, undefined when nothing is new, or why it is not signed. */
export const planSigning = (
  log: Pick<SignableTree, 'head' | 'sealedSize' | 'checkpoint'>,
  key: VerifierKey,
  memory: SigningMemory | undefined,
): SigningPlan | { readonly alarm: SigningAlarm } | undefined => {
  const { head, sealedSize } = log;
  const base = memory?.base ?? NOTHING_CHECKED;
  const signedSize = memory?.signed.size ?? 0n;
  if (head.size < signedSize) return alarm('log_rewound', 'size of the log', `at least ${signedSize}`, head.size);
  if (base.size > 0n && head.size === base.size && !bytesEqual(head.leaf, base.leaf))
    return alarm('log_forked', `leaf of entry ${base.size - 1n}`, hex(base.leaf), hex(head.leaf));
  const known: { size: bigint; root: Uint8Array; what: string }[] = [];
  // Died between signing and storing: the same tree once more, then whatever came after it.
  if (memory !== undefined && signedSize > base.size)
    known.push({ ...memory.signed, what: 'root that this signer signed' });
  const stored = log.checkpoint;
  if (stored !== undefined && stored.size > signedSize) {
    // The memory is lost, or older than the log: only the key's own signature tells what was signed.
    const checkpoint = openCheckpoint(stored.note, key);
    if (checkpoint?.size !== stored.size)
      return alarm('checkpoint_forged', `checkpoint of size ${stored.size}`, `a note signed by ${key.name}`, 'another');
    known.push({ size: stored.size, root: checkpoint.root, what: 'root in the newest checkpoint' });
  }
  const to = signedSize > base.size ? signedSize : sealedSize;
  for (const { size } of known)
    if (size > to && signedSize <= base.size)
      return alarm('log_rewound', 'size of the sealed log', `at least ${size}`, to);
  return to > base.size ? { from: base, to, known: known.filter(({ size }) => size <= to) } : undefined;
};

/** The origin of the incarnation after this one. */
export const nextOrigin = ({ origin, incarnation }: Pick<SignableTree, 'origin' | 'incarnation'>): string =>
  origin.replace(/\d+$/, String(incarnation + 1));

/** A log whose next incarnation was signed already does not go on: the database has lost that one whole. */
export const planEnded = (log: Pick<SignableTree, 'origin'>, next: SigningMemory): { readonly alarm: SigningAlarm } =>
  alarm('log_rewound', 'newest incarnation', next.origin, log.origin);

/** What is wrong with a log that continues another, as far as the signer remembers that one. */
export const planContinuation = (
  previous: Genesis['previous'],
  before: SigningMemory | undefined,
): { readonly alarm: SigningAlarm } | undefined => {
  if (previous === undefined || before === undefined) return undefined;
  const { size, root } = before.signed;
  const what = `what the genesis names of ${previous.origin}`;
  if (previous.size < size) return alarm('log_rewound', `${what}: size`, `at least ${size}`, previous.size);
  return previous.size === size && !bytesEqual(previous.root, root)
    ? alarm('log_forked', `${what}: root at ${size}`, hex(root), hex(previous.root))
    : undefined;
};

export interface ReadTree {
  readonly tree: CheckedTree;
  readonly root: Uint8Array;
  readonly nodes: readonly TreeNode[];
}

/** Hash, place and link of one row; the entry when all fit. */
const checkRow = (
  row: SignedRow,
  seq: bigint,
  prev: Uint8Array,
  isFirst: boolean,
): { readonly entry: Entry; readonly leaf: Uint8Array } | { readonly alarm: SigningAlarm } => {
  const damaged = (what: string, expected: bigint | string, actual: bigint | string) =>
    alarm('row_damaged', `${what} of entry ${seq}`, expected, actual);
  if (row.seq !== seq) return damaged('seq', seq, row.seq);
  if (row.segment !== segmentOf(seq)) return damaged('segment', String(segmentOf(seq)), String(row.segment));
  const leaf = leafHash(row.header);
  if (!bytesEqual(leaf, row.leaf)) return damaged('leaf hash', hex(leaf), hex(row.leaf));
  let entry: Entry;
  try {
    entry = decodeEntry(row.header);
  } catch (error) {
    return damaged('header', 'well formed', String(error));
  }
  if (entry.seq !== seq) return damaged('seq in the header', seq, entry.seq);
  if ((entry.kind === ENTRY_KINDS.incarnation) !== (seq === 0n)) return damaged('kind', 'its place', `${entry.kind}`);
  if (!bytesEqual(entry.prev, prev))
    return alarm(
      isFirst ? 'log_forked' : 'row_damaged',
      `hash of the entry before entry ${seq}`,
      hex(prev),
      hex(entry.prev),
    );
  return { entry, leaf };
};

/**
 * Reads every row of a plan, hashes header and payload, and gives the tree that may be signed, or why it may not. A
 * payload that is gone must be named by an erasure or retention entry among the rows that was signed before, since
 * erasing waits for that; one that was never stored, by the entry of its own batch.
 */
export const readTree = async (
  log: SignableLog,
  plan: SigningPlan,
  rows: SigningStore['rows'],
): Promise<ReadTree | { readonly alarm: SigningAlarm }> => {
  const nodes: TreeNode[] = [];
  const hasher = createTreeHasher(plan.from, (height, index, hash) => {
    if (height % 8 === 0) nodes.push({ level: height / 8, index, hash });
  });
  const gone = createGoneTracker();
  let { leaf } = plan.from;
  let lastKind: number | undefined;
  let prev = plan.from.size === 0n ? genesisHash(log.genesis) : leaf;
  while (hasher.size() < plan.to) {
    const page = await rows(log, hasher.size(), plan.to);
    if (page.length === 0) return alarm('row_damaged', `entry ${hasher.size()}`, 'there', 'missing');
    for (const row of page) {
      const seq = hasher.size();
      if (seq >= plan.to) return alarm('row_damaged', 'rows below the seal', plan.to, row.seq + 1n);
      const checked = checkRow(row, seq, prev, seq === plan.from.size);
      if ('alarm' in checked) return checked;
      const { entry } = checked;
      const { payload } = row;
      if (payload.state === 'missing' || payload.state === 'no_key') gone.missing(entry);
      else if (payload.state === 'unopened')
        return alarm('row_damaged', `payload of entry ${seq}`, 'opens with its key', 'it does not');
      else {
        const { salt, contentType, payload: bytes } = payload;
        const commitment = salt.length === 32 ? commitPayload(salt, contentType, bytes) : new Uint8Array();
        if (!bytesEqual(commitment, entry.commitment))
          return alarm('row_damaged', `commitment of entry ${seq}`, hex(entry.commitment), hex(commitment));
        gone.there(entry);
        if (KINDS_OF_GONE.has(entry.kind)) gone.named(entry, parseObject(bytes) ?? {});
      }
      ({ leaf } = checked);
      prev = leaf;
      lastKind = entry.kind;
      hasher.add(leaf);
      for (const { size, root, what } of plan.known)
        if (size === hasher.size() && !bytesEqual(root, hasher.root()))
          return alarm('log_forked', `${what}, size ${size}`, hex(root), hex(hasher.root()));
    }
  }
  // What was signed before: the memory's tree, or, without one, the newest checkpoint, whose root was found above.
  const signed = plan.known.reduce((size, known) => (known.size > size ? known.size : size), plan.from.size);
  const [unlawful] = gone.finish(signed).unlawful;
  if (unlawful !== undefined)
    return alarm(
      'row_damaged',
      `payload of entry ${unlawful.from}`,
      'there, or named by a lawful erasure or retention entry that is signed',
      unlawful.why,
    );
  if (lastKind !== ENTRY_KINDS.seal)
    return alarm('row_damaged', `kind of entry ${plan.to - 1n}`, 'seal', String(lastKind));
  return { tree: { ...hasher.state(), leaf }, root: hasher.root(), nodes };
};
