import { inOrder, type LedgerTransaction, type Sql } from '../core/append.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { Reading } from '../core/ingest-message.ts';
import {
  idsToLoad,
  planBatch,
  positionKey,
  positionsToLoad,
  type IngestState,
  type Needs,
  type Plan,
} from '../core/ingest-plan.ts';
import { streamKey } from '../core/ingest-stream.ts';
import type { OwnIds } from '../core/own-entry.ts';
import { insertReceived, readReceived } from './received.ts';
import {
  addCounts,
  insertArtifacts,
  insertSetAside,
  insertUnknownTenantEvents,
  putEmitters,
  putStreams,
  readEmitterKeys,
  readSetAside,
  readStreams,
  readUnknownTenantEvents,
  type Logs,
} from './statements.ts';

export interface BatchOptions {
  readonly logs: Logs;
  readonly needs: Needs;
  readonly nextOffset: bigint;
  readonly nowMs: number;
  readonly ids: OwnIds;
  /** Looks for every id among the events that are there, not only where numbers say that it may be. */
  readonly comparesAll: boolean;
}

/** Plans a batch by what the ledger knows; the heads of its logs are locked, so that stays true until the commit. */
export const planWithState = async (sql: Sql, readings: readonly Reading[], options: BatchOptions): Promise<Plan> => {
  const { logs, needs, nextOffset, nowMs, ids, comparesAll } = options;
  const tenants = new Set(logs.keys());
  const [known, emitterKeys, unknown] = await Promise.all([
    readStreams(sql, logs, needs.streams),
    readEmitterKeys(sql, needs.emitters),
    readUnknownTenantEvents(sql, needs.unknownTenantEvents),
  ]);
  const streams = new Map(known.map((stream) => [streamKey(stream), stream]));
  const state: IngestState = {
    nextOffset,
    tenants,
    emitterKeys,
    streams,
    events: await readReceived(
      sql,
      logs,
      idsToLoad(readings, tenants, streams, comparesAll),
      positionsToLoad(readings, tenants, streams),
    ),
    setAside: new Set(),
    unknownTenantEvents: new Set(unknown.map(positionKey)),
  };
  const plan = planBatch(state, readings, nowMs, ids);
  // Rarely is anything set aside; only then it matters whether the same was before.
  const setAside = await readSetAside(sql, logs, plan.setAside);
  return setAside.size === 0 ? plan : planBatch({ ...state, setAside }, readings, nowMs, ids);
};

/** Appends the entries and stores every change of state beside them. */
export const storePlan = async (
  { sql, append }: LedgerTransaction,
  logs: Logs,
  plan: Plan,
  nowUs: bigint,
  isCommitDurable: boolean,
): Promise<void> => {
  const firsts = new Map<string, bigint>();
  for (const [tenant, entries] of plan.entries) {
    const log = logs.get(tenant);
    if (log === undefined) throw new AppError('ledger_missing', `there is no ledger for tenant ${tenant}`);
    firsts.set(tenant, await append(log, entries));
  }
  const seqOf = (tenant: string, index: number): bigint => (firsts.get(tenant) ?? 0n) + BigInt(index);
  await inOrder([
    insertReceived(
      sql,
      logs,
      plan.seen.map((event) => ({ ...event, seq: seqOf(event.tenant, event.index) })),
    ),
    insertSetAside(
      sql,
      logs,
      plan.setAside.map((mark) => ({ ...mark, seq: seqOf(mark.tenant, mark.index) })),
    ),
    insertArtifacts(
      sql,
      logs,
      plan.artifacts.map((part) => ({ ...part, seq: seqOf(part.tenant, part.index) })),
    ),
    insertUnknownTenantEvents(
      sql,
      plan.unknownTenantEvents.map((event) => ({ ...event, seq: seqOf(SYSTEM_TENANT, event.index) })),
    ),
    putStreams(sql, logs, plan.streams, nowUs, isCommitDurable),
    putEmitters(sql, plan.emitters, nowUs),
    addCounts(sql, logs, plan.counts),
  ]);
};
