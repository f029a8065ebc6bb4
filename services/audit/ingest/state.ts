import type { LedgerTransaction, Sql } from '../core/append.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { positionKey, type IngestState, type Needs, type Plan } from '../core/ingest-plan.ts';
import { streamKey } from '../core/ingest-stream.ts';
import {
  addCounts,
  insertReceived,
  insertSetAside,
  insertUnknownTenantEvents,
  putEmitters,
  putStreams,
  readEmitterKeys,
  readReceived,
  readSetAside,
  readStreams,
  readUnknownTenantEvents,
  type Logs,
} from './statements.ts';

/** What the ledger knows of a batch; the heads of its logs are locked, so it stays true until the commit. */
export const loadState = async (sql: Sql, logs: Logs, needs: Needs, nextOffset: bigint): Promise<IngestState> => {
  const streams = new Map((await readStreams(sql, logs, needs.streams)).map((stream) => [streamKey(stream), stream]));
  // A stream's `highest` moves in the transaction of its events: above it there is nothing to look for.
  const positions = needs.positions.filter(
    (position) => position.sequence <= (streams.get(streamKey(position))?.highest ?? 0n),
  );
  return {
    nextOffset,
    tenants: new Set(logs.keys()),
    emitterKeys: await readEmitterKeys(sql, needs.emitters),
    streams,
    events: await readReceived(sql, logs, needs.eventIds, positions),
    setAside: await readSetAside(sql, logs, needs.setAside),
    unknownTenantEvents: new Set((await readUnknownTenantEvents(sql, needs.unknownTenantEvents)).map(positionKey)),
  };
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
  await insertReceived(
    sql,
    logs,
    plan.seen.map((event) => ({ ...event, seq: seqOf(event.tenant, event.index) })),
  );
  await insertSetAside(
    sql,
    logs,
    plan.setAside.map((mark) => ({ ...mark, seq: seqOf(mark.tenant, mark.index) })),
  );
  await insertUnknownTenantEvents(
    sql,
    plan.unknownTenantEvents.map((event) => ({ ...event, seq: seqOf(SYSTEM_TENANT, event.index) })),
  );
  await putStreams(sql, logs, plan.streams, nowUs, isCommitDurable);
  await putEmitters(sql, plan.emitters, nowUs);
  await addCounts(sql, logs, plan.counts);
};
