import type { Entry } from './entry.ts';
import type { NamedElsewhere } from './verify-gone.ts';
import type { CarriedNumbers } from './verify-numbers.ts';
import type { TreeNode } from './signing.ts';
import type { SearchColumns } from './verify-search.ts';
import type { IngestTables, ReceivedRow } from './verify-state.ts';
import type { Place } from './verify-place.ts';
import type { StreamClaim } from './verify-streams.ts';
import type { Window } from './verify-window.ts';

/** What became of an entry's payload. */
export type StoredPayload =
  | { readonly state: 'opened'; readonly salt: Uint8Array; readonly contentType: string; readonly payload: Uint8Array }
  /** There is no row. */
  | { readonly state: 'missing' }
  /** There is a row, but the key that opens it is gone. */
  | { readonly state: 'no_key' }
  /** There are a row and a key, and they do not fit: AES-GCM refused. */
  | { readonly state: 'unopened' };

/** A row of `edict.checkpoint`. */
export interface StoredCheckpoint {
  readonly size: bigint;
  readonly root: Uint8Array;
  readonly note: Uint8Array;
}

/** One row as it is stored. */
export interface StoredEntry {
  readonly seq: bigint;
  readonly segment: number;
  readonly header: Uint8Array;
  readonly leaf: Uint8Array;
  /** `withheld`: the source gives headers only, and nothing can be said of it. */
  readonly payload: StoredPayload | { readonly state: 'withheld' };
  /** The search rows that name this entry. */
  readonly search: readonly SearchColumns[];
  /** The checkpoint that ends with this entry. */
  readonly checkpoint?: StoredCheckpoint;
  /** Stored hashes of tiles, level 1 and above, whose last entry this is. */
  readonly nodes?: readonly TreeNode[];
  /** The row of `edict.received` with this entry's event id. */
  readonly received?: ReceivedRow;
}

/** What the log table says of the log. */
export interface LogFacts {
  readonly tenant: string;
  readonly origin: string;
  readonly vkey: string;
  readonly previous?: { readonly origin: string; readonly size: bigint; readonly root: Uint8Array };
}

/** What somebody remembers of the log: it must still be at least so long, with that leaf at its end then. */
export interface KnownSize {
  readonly source: string;
  readonly size: bigint;
  readonly leaf?: Uint8Array;
  /** True when it is kept, or signed, where who writes the database cannot change it. */
  readonly isOutside: boolean;
}

/** A row without its entry. */
export interface Orphan {
  readonly table: 'search' | 'payload';
  readonly seq: bigint;
}

/** A log as a source gives it: a database, tiles, an exported file. */
export interface LogContents {
  readonly log: LogFacts;
  /** False: the source does not say which log this one continues, so its first link cannot be computed. */
  readonly isContinuationKnown?: boolean;
  readonly head: { readonly size: bigint; readonly leaf: Uint8Array };
  /** All rows of the log that existed when the head was read, in order of seq, some at a time. */
  readonly pages: AsyncIterable<readonly StoredEntry[]> | Iterable<readonly StoredEntry[]>;
  /** Rows that belong to no entry; asked once all rows were read. */
  readonly orphans: () => Promise<readonly Orphan[]> | readonly Orphan[];
  /** The end that the next incarnation's genesis names, where there is one. */
  readonly continued?: {
    readonly by: string;
    readonly size: bigint;
    readonly root: Uint8Array;
    /** After a restore: how much of it the database still had. What was signed behind it is gone for ever. */
    readonly kept?: bigint;
    /** What the next incarnation goes on from: numbers that this log must have, or leave to it. */
    readonly streams?: readonly CarriedNumbers[];
  };
  readonly claims: readonly StreamClaim[];
  /** The largest checkpoint, also when the log is shorter. */
  readonly newest?: StoredCheckpoint;
  /** Absent: there are no such tables, the log is all there is. */
  readonly tables?: IngestTables;
  /** Raw public keys of emitters; each is believed only when its hash is the emitter's id. */
  readonly emitterKeys: ReadonlyMap<string, Uint8Array>;
  /** The search row that the event makes, with the same columns as the stored ones; undefined when it makes none. */
  readonly expectedSearch: (entry: Entry, event: Readonly<Record<string, unknown>>) => SearchColumns | undefined;
  /** What newer logs, and entries that came while this one was read, say of its payloads; asked at the end. */
  readonly goneElsewhere?: (coveredSize: bigint) => Promise<readonly NamedElsewhere[]>;
  /** What this log says of payloads of earlier ones, by origin. */
  readonly onGoneOfEarlier?: (gone: ReadonlyMap<string, readonly NamedElsewhere[]>) => void;
}

/** What a verification is given beside the log. */
export interface VerifyInput extends LogContents {
  /** Acknowledgements, earlier reports, what the auditor wrote down. */
  readonly known: readonly KnownSize[];
  readonly now: () => number;
  /** How long a number may be missing without a gap entry, ms. */
  readonly graceMs: number;
  /** Goes on behind this place: `pages` begin there. Beside it the checkpoint of its size, where the log still has it. */
  readonly from?: {
    readonly place: Place;
    readonly verifiedAt: string;
    readonly checkpoint: StoredCheckpoint | undefined;
  };
  /** Told of places to go on from: the newest good checkpoint, and some before it, for as long as nothing was found. */
  readonly onPlace?: (place: Place) => void;
  /** Asks for a statement of what is missing between two times. */
  readonly window?: Window;
  readonly onProgress?: (done: bigint, total: bigint) => void;
}
