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
   * first writer of a request wins: asked again, the same key is answered.
   */
  readonly issue: (
    log: Pick<Log, 'tenant' | 'origin'>,
    requests: readonly PayloadKeyRequest[],
  ) => Promise<readonly (Buffer | undefined)[]>;
  /**
   * The keys that may open each payload, in order: none when it was destroyed, and rarely more than one, left by a
   * transaction that did not commit. Only the right one opens the payload.
   */
  readonly find: (
    log: Pick<Log, 'tenant' | 'origin'>,
    references: readonly PayloadKeyReference[],
  ) => Promise<readonly (readonly Buffer[])[]>;
  /** Destroys the keys of single entries. */
  readonly destroyEntries: (
    log: Pick<Log, 'tenant' | 'origin'>,
    references: readonly PayloadKeyReference[],
  ) => Promise<void>;
  /** Destroys the key of a data subject, and for ever: later requests for it answer undefined. */
  readonly destroySubject: (tenant: string, subject: DataSubject) => Promise<void>;
  readonly close: () => Promise<void>;
}
