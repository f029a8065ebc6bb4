import type { AuditTrail } from './audit-trail/audit-trail.ts';
import type { Memo } from './core/memo.ts';
import type { ActivePolicy } from './policy/active-policy.ts';
import type { TenantPolicies } from './policy/tenant-policies.ts';
import { Counter, registerCounts, registerGauges, type Registry } from '../shared/runtime/metrics.ts';
import { isStale } from './status.ts';

export const registerTrailGauges = (registry: Registry, trail: AuditTrail): void => {
  const { status } = trail;
  registerGauges(registry, {
    edict_spool_used_bytes: {
      help: 'Bytes of the spool’s segments.',
      read: () => status().emitter.spool?.usedBytes ?? 0,
    },
    edict_spool_free_bytes: {
      help: 'Room for decisions before covered segments are given up.',
      read: () => status().emitter.spool?.freeBytes ?? 0,
    },
    edict_spool_unsynced_bytes: {
      help: 'Written, and not synced to disk yet.',
      read: () => status().emitter.spool?.unsyncedBytes ?? 0,
    },
    edict_spool_segments_given_up: {
      help: 'Covered segments that went before spool.keep because room was needed.',
      read: () => status().emitter.spool?.givenUp ?? 0,
    },
    edict_emitter_failed_boots: { help: 'Boots that ended early.', read: () => status().emitter.failedBoots },
    edict_relay_lag_records: {
      help: 'Records that the broker did not confirm yet; 0 without Kafka.',
      read: () => status().lagRecords ?? 0,
    },
    edict_artifacts_waiting: {
      help: 'Bundles, and nodes of pushed data, that are not sent to their end, by tenant and digest.',
      read: () => status().emitter.artifacts.waiting,
    },
    edict_artifacts_without_room: {
      help: 'Of those, the ones for which spool or quota have no room to spare.',
      read: () => status().emitter.artifacts.withoutRoom,
    },
    edict_lost_events: { help: 'Events that name numbers which nothing can bring.', read: () => status().lostEvents },
  });
};

export const registerMemoMetrics = (registry: Registry, memo: Memo): void => {
  registerGauges(registry, {
    edict_memo_entries: { help: 'Answers that are remembered.', read: () => memo.stats().entries },
    edict_memo_bytes: { help: 'What they take, roughly.', read: () => memo.stats().bytes },
  });
  registerCounts(registry, {
    edict_memo_hits_total: { help: 'Requests that were answered from the memo.', read: () => memo.stats().hits },
    edict_memo_misses_total: {
      help: 'Requests that could have been, and were evaluated.',
      read: () => memo.stats().misses,
    },
  });
};

export const registerEngineGauges = (registry: Registry, { status }: TenantPolicies): void =>
  registerGauges(registry, {
    edict_engines_live: { help: 'Policy engines that have memory.', read: () => status().live },
    edict_engines_bytes: { help: 'Memory of all live engines, reserved.', read: () => status().bytes },
    edict_engines_made: { help: 'Engines that got memory since the start.', read: () => status().made },
    edict_engines_evicted: {
      help: 'Engines that gave up their memory for others since the start.',
      read: () => status().evicted,
    },
  });

export const registerStaleGauge = (registry: Registry, policy: Pick<ActivePolicy, 'status'>): void =>
  registerGauges(registry, {
    edict_bundle_stale_sets: {
      help: 'Active sets that expired, or that their source did not confirm for longer than pdp.max_staleness.',
      read: () => policy.status().filter(isStale).length,
    },
  });

/** Counts a set of bundles that became active, or was refused. */
export const createLoadCounter = (registry: Registry): ((result: 'active' | 'failed') => void) => {
  const loads = new Counter({
    name: 'edict_bundle_loads_total',
    help: 'Sets of bundles that became active or were refused.',
    labelNames: ['result'],
    registers: [registry],
  });
  return (result) => loads.inc({ result });
};
