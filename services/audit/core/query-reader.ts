import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import type { PublishedLog } from '../../shared/tlog/tiles.ts';
import type { Log } from './append.ts';
import type { FoundArtifact } from './artifact.ts';
import type { PayloadKeys } from './payload-keys.ts';
import { decryptPayload } from './payload.ts';
import { decodeEntry, type Entry } from './entry.ts';
import type { DecisionOrder, SearchCriteria } from './query.ts';
import type { Cursor } from './query-cursor.ts';
import type { VerificationReport } from './verify-report.ts';
import type { StoredPayload } from './verify-input.ts';
import type { SearchColumns } from './verify-search.ts';

export interface LedgerLog extends Log {
  readonly incarnation: number;
  readonly vkey: string;
  readonly size: bigint;
}

/** An entry as it is read for a person: header and payload, whatever is left of them. */
export interface ReadEntry {
  readonly log: Pick<Log, 'id' | 'origin'>;
  readonly seq: bigint;
  /** Undefined when a search row names an entry that is not there. */
  readonly header: Uint8Array | undefined;
  readonly leaf: Uint8Array | undefined;
  readonly payload: StoredPayload;
}

export interface FoundDecision extends ReadEntry {
  readonly eventId: string;
  readonly search: SearchColumns;
}

export interface EmitterBoot {
  readonly boot: string;
  readonly highest: string;
  readonly completeTo: string;
  readonly coveredTo: string;
  readonly holes: unknown;
  readonly state: string;
  readonly lastEventMs: number | null;
  readonly lastIngestMs: number;
}

export interface EmitterState {
  readonly emitter: string;
  readonly attested: boolean;
  readonly retired: boolean;
  readonly firstSeenMs: number | null;
  readonly lastSeenMs: number | null;
  readonly boots: readonly EmitterBoot[];
}

export interface DecisionPage {
  readonly order: DecisionOrder;
  readonly asOf: Cursor['asOf'];
  /** Begins behind this entry; absent: at the end that the order names. */
  readonly after?: Cursor['after'];
  /** At most so many; absent: all. */
  readonly limit?: number;
}

/** An entry of a range, with the checkpoint that ends with it. */
export interface RangeEntry {
  readonly seq: bigint;
  readonly header: Uint8Array;
  readonly payload: StoredPayload;
  readonly checkpoint?: Uint8Array;
}

/** How all entries of a log are read, not only decisions. */
export interface RangeReader {
  /** The first entry below `size` that was taken in at `us` or later, as ingest times go forward; `size` without one. */
  readonly firstSince: (logId: number, us: bigint, size: bigint) => Promise<bigint>;
  /** The largest checkpoint of at most `size` entries, and the smallest of at least so many. */
  readonly checkpointUpTo: (logId: number, size: bigint) => Promise<PublishedLog | undefined>;
  readonly checkpointFrom: (logId: number, size: bigint) => Promise<PublishedLog | undefined>;
  /** What is there of the entries `from` to `to - 1`, in order; payloads are in memory only some at a time. */
  readonly entries: (log: Pick<Log, 'id' | 'tenant' | 'origin'>, from: bigint, to: bigint) => AsyncIterable<RangeEntry>;
}

/** How the audit service reads a tenant's ledger. Nothing here sees another tenant's rows. */
export interface LedgerReader {
  /** Newest incarnation first; empty when the tenant has no ledger. */
  readonly logs: (tenant: string) => Promise<readonly LedgerLog[]>;
  /** One after another, so that payloads are in memory only some at a time; nothing behind `asOf`. */
  readonly decisions: (tenant: string, criteria: SearchCriteria, page: DecisionPage) => AsyncIterable<FoundDecision>;
  readonly event: (tenant: string, eventId: string) => Promise<ReadEntry | undefined>;
  /** Of a digest of 64 hex digits; undefined when nothing of it is there. */
  readonly artifact: (tenant: string, digest: string) => Promise<FoundArtifact | undefined>;
  readonly range: RangeReader;
  readonly emitters: (tenant: string) => Promise<readonly EmitterState[]>;
  /** The newest finished report of each of the tenant's logs, and one that failed before it, until everything passes. */
  readonly reports: (tenant: string) => Promise<readonly VerificationReport[]>;
}

/** The entry in a header, or undefined when it is malformed. */
export const entryOf = (header: Uint8Array | undefined): Entry | undefined => {
  if (header === undefined) return undefined;
  try {
    return decodeEntry(header);
  } catch {
    return undefined;
  }
};

/** Opens the payloads of some rows of one log, in order. Rejects with `keys_unavailable`. */
export const openPayloads = async (
  keys: PayloadKeys,
  log: Pick<Log, 'tenant' | 'origin'>,
  rows: readonly {
    readonly seq: bigint;
    readonly header: Uint8Array | null;
    readonly ciphertext: Uint8Array | null;
  }[],
): Promise<readonly StoredPayload[]> => {
  const places = rows.map(({ seq, header, ciphertext }) => {
    const entry = ciphertext === null ? undefined : entryOf(header ?? undefined);
    return entry === undefined ? undefined : { origin: log.origin, seq, eventId: bytesToUuid(entry.eventId) };
  });
  const known = places.filter((place) => place !== undefined);
  const found = known.length === 0 ? [] : await keys.find(log, known);
  let next = 0;
  return rows.map(({ ciphertext }, index): StoredPayload => {
    const place = places[index];
    if (ciphertext === null) return { state: 'missing' };
    if (place === undefined) return { state: 'unopened' };
    const candidates = found[next] ?? [];
    next += 1;
    if (candidates.length === 0) return { state: 'no_key' };
    for (const key of candidates) {
      const opened = decryptPayload(key, place, ciphertext);
      if (opened !== undefined)
        return { state: 'opened', salt: opened.salt, contentType: opened.contentType, payload: opened.bytes };
    }
    return { state: 'unopened' };
  });
};
