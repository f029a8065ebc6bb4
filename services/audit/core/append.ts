import type { EntryKind } from './entry.ts';

/** One log: a tenant's shard in one incarnation. */
export interface Log {
  readonly id: number;
  readonly tenant: string;
  readonly origin: string;
}

/** Whose key the payload is encrypted under: a person or service, or the tenant's pseudo-subject. */
export interface DataSubject {
  /** `claims.iss` when it was verified, else empty. */
  readonly issuer: string;
  readonly type: string;
  readonly id: string;
}

/** What the search table says of a decision. Derived from the payload, rebuildable, proves nothing. */
export interface SearchRow {
  readonly eventTimeMs: number;
  readonly decision: 'allow' | 'deny';
  /** Reason codes, in order. */
  readonly reasons: readonly string[];
  readonly subject: DataSubject;
  readonly agent?: string;
  /** The actors before the agent, oldest first; absent when there are none. */
  readonly chain?: readonly string[];
  readonly action: string;
  readonly resourceType: string;
  readonly resource: string;
  readonly purpose?: string;
  readonly session?: string;
  readonly requestId?: string;
  readonly caller: string;
}

/** An entry before it has a place in a log: seq, time, salt, commitment and link come from the writer. */
export interface NewEntry {
  readonly kind: EntryKind;
  /** UUIDv7 text. */
  readonly eventId: string;
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** 32 hex digits; zeros for entries that the audit service makes itself. */
  readonly emitter: string;
  readonly boot: bigint;
  readonly emitterSeq: bigint;
  /** 32 bytes; zeros but for decisions and activations. */
  readonly policySetDigest: Uint8Array;
  readonly contentType: string;
  /** P: the event's bytes as received, or RFC 8785 bytes of what the audit service says. */
  readonly payload: Uint8Array;
  readonly subject: DataSubject;
  readonly search?: SearchRow;
}

/** Appends to one log within the surrounding transaction; returns the seq of the first entry. */
export type AppendEntries = (log: Log, entries: readonly NewEntry[]) => Promise<bigint>;

/** A statement runner, one connection, inside or outside a transaction. */
export interface Sql {
  readonly query: <Row>(text: string, parameters?: readonly unknown[]) => Promise<readonly Row[]>;
}

/**
 * Waits for statements of one connection that were sent without waiting for each other: they run in order, and the next
 * is made while the database works on the one before. Rejects with the first failure, once all have ended.
 */
export const inOrder = async (statements: readonly Promise<unknown>[]): Promise<void> => {
  const failed = (await Promise.allSettled(statements)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
};

export interface LedgerTransaction {
  readonly sql: Sql;
  readonly append: AppendEntries;
}

/**
 * Runs `work` in one transaction. Heads of `logs` are locked at its beginning, others when first appended to (two
 * writers that meet there may both get `database_conflict`). Before the commit, in this order: payload keys are durable in the key store, the
 * embedded journal is synced. Rejects with `database_unavailable` (nothing happened, try again) or
 * `database_conflict` (another writer was first: read the state anew).
 */
export type WriteLedger = <T>(
  work: (transaction: LedgerTransaction) => Promise<T>,
  logs?: readonly Log[],
) => Promise<T>;
