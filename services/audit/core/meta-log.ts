import { bytesEqual, hex, sha256 } from '../../shared/contracts/bytes.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint } from '../../shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import type { PublishedLog, TileReader } from '../../shared/tlog/tiles.ts';
import type { NewCheckpoint, ReadTree, SigningAlarm, SigningPlan, SigningStore, TreeNode } from './signing.ts';

/**
 * In the place of a tenant where the keys of logs are named: no tenant has an `@`.
 * The meta log's key is `@meta-<incarnation>.pem`.
 */
export const META_KEY = '@meta';

/** `<authority>/-/meta/<incarnation>`: no tenant is called `-`. */
export const metaOriginOf = (authority: string, incarnation: number): string => `${authority}/-/meta/${incarnation}`;

/** An entry of the meta log: H(the tenant's checkpoint note), 32 bytes. */
export const metaEntry = (note: Uint8Array): Buffer => sha256(note);

/** leaf = H(0x00 ‖ entry), RFC 6962, section 2.1. */
export const metaLeafHash = (entry: Uint8Array): Buffer => sha256(Buffer.from([0x00]), entry);

/** The newest incarnation of the meta log as the database shows it to the signer. */
export interface MetaLog {
  readonly incarnation: number;
  readonly origin: string;
  readonly vkey: string;
  /** How many leaves there are, and the entry of the last. */
  readonly size: bigint;
  readonly lastEntry?: Uint8Array;
  /** The largest checkpoint. */
  readonly checkpoint?: { readonly size: bigint; readonly note: Uint8Array };
  /** The system tenant's log, which its alarms are entered in. */
  readonly alarmLogId: number;
}

/** Which log a checkpoint is of: what its key is found by. */
export interface CheckpointLog {
  readonly logId: number;
  readonly tenant: string;
  readonly incarnation: number;
  readonly origin: string;
}

export interface TenantCheckpoint extends CheckpointLog {
  readonly size: bigint;
  readonly note: Uint8Array;
}

/** The verifier of the signer's own key of a log, never the one in the database; undefined when it has none. */
export type VerifierOf = (log: CheckpointLog) => VerifierKey | undefined;

/** A leaf as it is read back, with the checkpoint that it names; no note when that is missing. */
export interface MetaLeaf extends CheckpointLog {
  readonly index: bigint;
  readonly entry: Uint8Array;
  readonly size: bigint;
  readonly note?: Uint8Array;
}

export interface NewMetaLeaf {
  readonly logId: number;
  readonly size: bigint;
  readonly entry: Uint8Array;
}

/** Where the signer reads and writes the meta log. */
export interface MetaStore {
  /** The newest incarnation; undefined before `edict ledger create edict`. */
  readonly metaLog: () => Promise<MetaLog | undefined>;
  /**
   * The first checkpoints that are no leaf yet, in the order in which they were signed. Not thorough: those that are
   * larger than the log's newest leaf.
   */
  readonly unlisted: (isThorough: boolean) => Promise<readonly TenantCheckpoint[]>;
  /** Appends the leaves at the end; one that is there already is left out. */
  readonly list: (incarnation: number, leaves: readonly NewMetaLeaf[]) => Promise<void>;
  /** The first leaves from `from` on and below `to`; how many is the store's to say, at least one. */
  readonly leaves: (incarnation: number, from: bigint, to: bigint) => Promise<readonly MetaLeaf[]>;
  /** Stored again it changes nothing. */
  readonly storeMeta: (incarnation: number, checkpoint: NewCheckpoint) => Promise<void>;
  /** Hashes of tiles, as `MetaReader.hashes`. */
  readonly metaHashes: MetaReader['hashes'];
  /** Stored again it changes nothing. */
  readonly attest: (incarnation: number, size: bigint, attestation: Attestation) => Promise<void>;
}

/** What somebody else says of a checkpoint of the meta log. */
export interface Attestation {
  /** The table's other kind, `timestamp`, is reserved. */
  readonly kind: 'cosignature';
  /** The witness’s `<name>+<key id, hex>`. */
  readonly source: string;
  /** When it saw the checkpoint, by its own clock. */
  readonly timeMs: number;
  /** A signature line of the note. */
  readonly bytes: Uint8Array;
  readonly storedUs: bigint;
}

/** Everything that the signer reads and writes: under its own role; embedded, through the audit service. */
export type SignerStore = SigningStore & MetaStore;

/** Whether a note is a checkpoint of that size which the log's key has signed; nobody can tell without the key. */
const isSigned = (note: Uint8Array, size: bigint, verifier: VerifierKey | undefined): boolean =>
  verifier !== undefined && openCheckpoint(note, verifier)?.size === size;

/** The leaves of the checkpoints that their logs' keys signed; what else lies in the table gets none. */
export const leavesOf = (checkpoints: readonly TenantCheckpoint[], verifierOf: VerifierOf): readonly NewMetaLeaf[] =>
  checkpoints
    .filter((checkpoint) => isSigned(checkpoint.note, checkpoint.size, verifierOf(checkpoint)))
    .map(({ logId, size, note }) => ({ logId, size, entry: metaEntry(note) }));

const damaged = (
  what: string,
  expected: bigint | string,
  actual: bigint | string,
): { readonly alarm: SigningAlarm } => ({
  alarm: { alarm: 'row_damaged', what, expected: String(expected), actual: String(actual) },
});

/** Why a leaf that was read back is not that of a signed checkpoint at this place. */
const faultOf = (
  leaf: MetaLeaf,
  index: bigint,
  verifierOf: VerifierOf,
): { readonly alarm: SigningAlarm } | undefined => {
  const { note, logId, size, entry } = leaf;
  if (leaf.index !== index) return damaged('index of a leaf', index, leaf.index);
  const checkpoint = `checkpoint ${size} of log ${logId}`;
  if (note === undefined) return damaged(`${checkpoint}, leaf ${index}`, 'there', 'missing');
  const expected = metaEntry(note);
  if (!bytesEqual(expected, entry)) return damaged(`hash of ${checkpoint}, leaf ${index}`, hex(expected), hex(entry));
  return isSigned(note, size, verifierOf(leaf))
    ? undefined
    : damaged(`${checkpoint}, leaf ${index}`, 'signed by its log', 'not');
};

/** Reads every leaf of a plan, hashes its checkpoint again, and gives the tree that may be signed, or why it may not. */
export const readMetaTree = async (
  plan: SigningPlan,
  leaves: (from: bigint, to: bigint) => Promise<readonly MetaLeaf[]>,
  verifierOf: VerifierOf,
): Promise<ReadTree | { readonly alarm: SigningAlarm }> => {
  const nodes: TreeNode[] = [];
  const hasher = createTreeHasher(plan.from, (height, index, hash) => {
    if (height % 8 === 0) nodes.push({ level: height / 8, index, hash });
  });
  let last = plan.from.leaf;
  while (hasher.size() < plan.to) {
    const page = await leaves(hasher.size(), plan.to);
    if (page.length === 0) return damaged(`leaf ${hasher.size()}`, 'there', 'missing');
    for (const row of page) {
      const fault =
        hasher.size() < plan.to ? faultOf(row, hasher.size(), verifierOf) : damaged('leaves', plan.to, row.index + 1n);
      if (fault !== undefined) return fault;
      last = metaLeafHash(row.entry);
      hasher.add(last);
      for (const { size, root, what } of plan.known)
        if (size === hasher.size() && !bytesEqual(root, hasher.root()))
          return {
            alarm: {
              alarm: 'log_forked',
              what: `${what}, size ${size}`,
              expected: hex(root),
              actual: hex(hasher.root()),
            },
          };
    }
  }
  return { tree: { ...hasher.state(), leaf: last }, root: hasher.root(), nodes };
};

/** The meta log as C2SP tiles; its incarnation is in the place of a log's id. */
export interface MetaReader extends Pick<TileReader, 'hashes' | 'entries'> {
  /** With the newest checkpoint, and the cosignatures of it that are stored. */
  readonly published: (incarnation: number) => Promise<PublishedLog | undefined>;
  /**
   * What is best known of a log's checkpoints larger than `above`, each with a meta checkpoint: for every count the newest
   * that at least so many witnesses cosigned, the one of most witnesses first, the newest at the end. Which of them are
   * enough only the policy of who asks can say.
   */
  readonly covering: (logId: number, above: bigint) => Promise<readonly CoveredCheckpoint[]>;
}

/** A checkpoint of a tenant's log, and a checkpoint of the meta log that covers its leaf. */
export interface CoveredCheckpoint {
  readonly size: bigint;
  readonly note: Uint8Array;
  readonly index: bigint;
  readonly meta: {
    readonly incarnation: number;
    readonly origin: string;
    readonly size: bigint;
    /** With its cosignatures. */
    readonly note: Uint8Array;
  };
}
