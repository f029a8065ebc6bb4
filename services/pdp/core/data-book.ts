import { isObject } from '../../shared/contracts/json.ts';
import type { DataRecord } from './data-record.ts';
import { PatchConflict } from './json-patch.ts';
import { finish, type Steps } from './data-nodes.ts';
import { changing, NOTHING_PUSHED, restoredData, type DataIdentity, type PushedData } from './pushed-data.ts';

/** All that a decision point keeps of one tenant's stream; a snapshot holds it as JSON. */
export interface TenantData {
  readonly data: PushedData;
  /** Ids of the newest records, oldest first: one that comes again is no second change. */
  readonly recent: readonly string[];
}

export type Applied =
  | { readonly kind: 'changed'; readonly identity: DataIdentity }
  /** It stands in the stream, and has no effect, here and on every other decision point. */
  | { readonly kind: 'conflict'; readonly conflict: PatchConflict }
  | { readonly kind: 'repeated' };

/** A record whose effect is computed, and not in force yet. */
export interface Trial {
  readonly applied: Applied;
  /** Puts it into force. Throws when another record came in between. */
  readonly enter: () => void;
}

export interface DataBook {
  readonly of: (tenant: string) => PushedData;
  /** The next record of the tenant's stream. */
  readonly apply: (record: DataRecord, offset: number) => Promise<Applied>;
  /** What the record would do now. Changes nothing until it is entered. */
  readonly tryOut: (record: DataRecord, offset: number) => Promise<Trial>;
  readonly stateOf: (tenant: string) => TenantData;
  readonly restore: (tenant: string, state: TenantData) => void;
  /**
   * Resolves when the tenant's data is at `revision` or beyond, or `timeoutMs` later; at once where 64 of the tenant
   * wait already, so that one tenant's waiting takes no places from the others.
   */
  readonly waitFor: (tenant: string, revision: number, timeoutMs: number) => Promise<void>;
  /** Lets go who waits. */
  readonly close: () => void;
}

const RECENT = 256;
/** Of one tenant. */
const MAX_WAITING = 64;
const NOTHING: TenantData = { data: NOTHING_PUSHED, recent: [] };

interface Waiter {
  readonly revision: number;
  readonly done: () => void;
}

/** `onChanged` is called after each change and each restore, before whoever waits for it goes on. */
export const createDataBook = (options: {
  /** RFC 8785 bytes of a tenant's document. The same on all decision points. */
  readonly maxBytes: number;
  readonly onChanged?: (tenant: string, data: PushedData) => void;
  /** Does the steps of a change, with pauses between them that let others on; without it there are none. */
  readonly work?: <T>(steps: Steps<T>) => Promise<T>;
  readonly setTimer: (done: () => void, ms: number) => () => void;
}): DataBook => {
  const work = options.work ?? (<T>(steps: Steps<T>): Promise<T> => Promise.resolve(finish(steps)));
  const states = new Map<string, TenantData>();
  const waiting = new Map<string, Set<Waiter>>();
  const stateOf = (tenant: string): TenantData => states.get(tenant) ?? NOTHING;

  const set = (tenant: string, state: TenantData): void => {
    states.set(tenant, state);
    options.onChanged?.(tenant, state.data);
    const reached = state.data.identity?.revision ?? -1;
    for (const waiter of waiting.get(tenant) ?? []) if (waiter.revision <= reached) waiter.done();
  };

  const next = async (
    { id, change }: DataRecord,
    offset: number,
    { data, recent }: TenantData,
  ): Promise<readonly [Applied, TenantData]> => {
    if (recent.includes(id)) return [{ kind: 'repeated' }, { data, recent }];
    const kept = [...recent.slice(1 - RECENT), id];
    try {
      const after = await work(changing(data, change, offset, options.maxBytes));
      const identity = after.identity ?? { revision: offset, digest: '' };
      return [
        { kind: 'changed', identity },
        { data: after, recent: kept },
      ];
    } catch (conflict) {
      if (conflict instanceof PatchConflict)
        return [
          { kind: 'conflict', conflict },
          { data, recent: kept },
        ];
      throw conflict;
    }
  };

  const tryOut = async (record: DataRecord, offset: number): Promise<Trial> => {
    const { tenant } = record;
    const before = stateOf(tenant);
    const [applied, state] = await next(record, offset, before);
    return {
      applied,
      enter() {
        if (stateOf(tenant) !== before) throw new TypeError('another record was applied in between');
        if (applied.kind === 'changed') set(tenant, state);
        else states.set(tenant, state);
      },
    };
  };

  return {
    of: (tenant) => stateOf(tenant).data,
    tryOut,
    async apply(record, offset) {
      const { applied, enter } = await tryOut(record, offset);
      enter();
      return applied;
    },
    stateOf,
    restore: set,
    waitFor: (tenant, revision, timeoutMs) =>
      new Promise((resolve) => {
        const reached = stateOf(tenant).data.identity?.revision ?? -1;
        if (reached >= revision) return resolve();
        const waiters = waiting.get(tenant) ?? new Set<Waiter>();
        if (waiters.size >= MAX_WAITING) return resolve();
        waiting.set(tenant, waiters);
        const done = (): void => {
          stop();
          waiters.delete(waiter);
          resolve();
        };
        const waiter = { revision, done };
        const stop = options.setTimer(done, timeoutMs);
        waiters.add(waiter);
      }),
    close() {
      for (const waiters of waiting.values()) for (const { done } of waiters) done();
    },
  };
};

export const snapshotOf = ({ data, recent }: TenantData): object => ({
  document: data.document,
  ...(data.identity === undefined ? {} : { identity: data.identity }),
  recent,
});

/** A parsed snapshot; undefined for anything else, and for one whose digest does not fit. */
export const tenantDataOf = (value: unknown): TenantData | undefined => {
  if (!isObject(value) || !isObject(value['document']) || !Array.isArray(value['recent'])) return undefined;
  const { document, identity } = value;
  const recent = value['recent'].map(String);
  if (identity === undefined) {
    const data = restoredData(document, undefined);
    return data === undefined ? undefined : { data, recent };
  }
  if (!isObject(identity)) return undefined;
  const { revision, digest } = identity;
  if (typeof revision !== 'number' || !Number.isSafeInteger(revision) || typeof digest !== 'string') return undefined;
  const data = restoredData(document, { revision, digest });
  return data === undefined ? undefined : { data, recent };
};
