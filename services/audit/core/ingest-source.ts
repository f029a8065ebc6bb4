/** Edict sends four; a message with more than this is no event, and a source gives one more than this at most. */
export const MAX_HEADERS = 64;

/** A message as a source gives it: a Kafka record, or a record of an emitter's spool. */
export interface SourceMessage {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** As received; a name may stand more than once. */
  readonly headers: readonly (readonly [name: string, value: Uint8Array])[];
  readonly value: Uint8Array;
}

/** Where a source's partition continues. */
export interface SourcePartition {
  readonly topic: string;
  readonly partition: number;
}

/** What a source says of a partition. */
export interface SourceRange extends SourcePartition {
  /** Its first offset that still exists. */
  readonly first: bigint;
  /** The one after its last. */
  readonly end: bigint;
  /** Where reading stood before the source was asked: an end that is older than that proves nothing. */
  readonly read: bigint;
}

/**
 * Where to go on reading. `fenced`: another reader was further (or a restored database further back), nothing of
 * what was handed over was stored.
 */
export interface Taken {
  readonly nextOffset: bigint;
  readonly fenced: boolean;
}

/** Answers false when the reader may not go on: it is closing, or the partition went to another reader. */
export type KeepAlive = () => Promise<boolean>;

export interface SourceHandler {
  /** The next offsets of the topic's partitions, as committed; a partition that was never read is absent. */
  readonly positions: (topic: string) => Promise<ReadonlyMap<number, bigint>>;
  /**
   * Stores the messages, ascending offsets of one partition, and answers where to go on. Retries while the database
   * is away, for as long as `keepAlive` answers true; then rejects with `database_unavailable`.
   */
  readonly take: (messages: readonly SourceMessage[], keepAlive: KeepAlive) => Promise<Taken>;
  /**
   * Compares what a source still has with what was read: records what was lost before it could be read, and where
   * the partition was made anew. Answers where to read.
   */
  readonly reconcile: (range: SourceRange, keepAlive: KeepAlive) => Promise<bigint>;
}

export interface SourceHealth {
  readonly ok: boolean;
  /** Why not, or what is worth knowing; no secrets. */
  readonly note?: string;
  /** Messages that wait, as far as known. */
  readonly lag: number;
}

/** Hands every message to the handler, in order within a partition, until closed. */
export interface EventSource {
  readonly name: string;
  /** Starts reading; resolves when reading has begun. Later faults show in `health` and are retried. */
  readonly run: (handler: SourceHandler) => Promise<void>;
  readonly health: () => SourceHealth;
  /** Lets the batch in hand end, then stops. */
  readonly close: () => Promise<void>;
}
