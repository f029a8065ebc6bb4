import type { DataSubject, Log } from './append.ts';

export interface PayloadKeyRequest {
  readonly seq: bigint;
  /** UUID text. */
  readonly eventId: string;
  readonly subject: DataSubject;
}

export type PayloadKeyReference = Pick<PayloadKeyRequest, 'seq' | 'eventId'>;

/** The store of payload keys. Every function rejects with `keys_unavailable` when it does not answer. */
export interface PayloadKeys {
  /**
   * One key for each request, in order, durable when this resolves; undefined where the data subject is erased. The
   * first writer of a request wins: asked again, the same key is answered. Rejects where a subject's key is damaged:
   * a new one would hide that.
   */
  readonly issue: (
    log: Pick<Log, 'tenant' | 'origin'>,
    requests: readonly PayloadKeyRequest[],
  ) => Promise<readonly (Buffer | undefined)[]>;
  /**
   * The keys that may open each payload, in order: none when it was destroyed or is damaged, and rarely more than one,
   * left by a transaction that did not commit. Only the right one opens the payload.
   */
  readonly find: (
    log: Pick<Log, 'tenant' | 'origin'>,
    references: readonly PayloadKeyReference[],
  ) => Promise<readonly (readonly Buffer[])[]>;
  /** The store's name of a data subject, an HMAC: 32 bytes. */
  readonly nameOf: (tenant: string, subject: DataSubject) => Buffer;
  /** From now on no keys are issued for a data subject, for ever; what has one can still be opened. */
  readonly closeSubject: (tenant: string, name: Uint8Array) => Promise<void>;
  /** The same for single events. */
  readonly closeEvents: (tenant: string, eventIds: readonly string[]) => Promise<void>;
  /**
   * The entries in a range of at most 65,536 (`to` is not in it) that have a key of a data subject. Those of a
   * transaction that did not commit are among them: compare with the entries that there are.
   */
  readonly entriesOf: (
    log: Pick<Log, 'tenant' | 'origin'>,
    name: Uint8Array,
    from: bigint,
    to: bigint,
  ) => Promise<readonly PayloadKeyReference[]>;
  /** Destroys every key of a segment: its payloads go. */
  readonly destroySegment: (log: Pick<Log, 'tenant' | 'origin'>, segment: number) => Promise<void>;
  /** Destroys the keys of single entries. */
  readonly destroyEntries: (
    log: Pick<Log, 'tenant' | 'origin'>,
    references: readonly PayloadKeyReference[],
  ) => Promise<void>;
  /** Destroys the key of a data subject, and for ever: later requests for it answer undefined. */
  readonly destroySubject: (tenant: string, name: Uint8Array) => Promise<void>;
  readonly close: () => Promise<void>;
}
