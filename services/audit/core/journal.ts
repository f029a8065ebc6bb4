import type { Log } from './append.ts';

/** One entry as the embedded journal keeps it. */
export interface JournalEntry {
  /** E_i */
  readonly header: Buffer;
  readonly salt: Buffer;
  /** The encrypted payload, where the audit service made the payload itself and no spool has it. */
  readonly ciphertext?: Buffer;
}

/**
 * What one transaction did, in order: entries that it appended, and every other statement that changed something
 * (marks of streams, cursors, counts), so that applying the frame again to the same database gives the same database.
 */
export type JournalOperation =
  | { readonly kind: 'append'; readonly log: Log; readonly entries: readonly JournalEntry[] }
  | { readonly kind: 'statement'; readonly text: string; readonly parameters?: readonly unknown[] };

export interface JournalFrame {
  /** From 1, without holes. */
  readonly number: bigint;
  readonly operations: readonly JournalOperation[];
}

/** The embedded journal: a frame that is in it happened, whether or not the database still knows. */
export interface Journal {
  /** The number of the last frame; 0 when there is none. */
  readonly last: () => bigint;
  /** Durable when this resolves; `frame.number` must be `last() + 1`. Rejects with `journal_corrupt`. */
  readonly append: (frame: JournalFrame) => Promise<void>;
  /** The frames from number `from` on. Rejects with `journal_corrupt` when one cannot be read. */
  readonly read: (from: bigint) => AsyncIterable<JournalFrame>;
  readonly close: () => Promise<void>;
}
