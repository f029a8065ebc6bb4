import { RETENTION_FLOOR_DAYS } from '../../shared/contracts/retention.ts';

/** Entries of a segment: payloads go a whole one at a time. */
const SEGMENT = 65_536n;

/** How far retention is in one log. */
export interface RetainedLog {
  readonly log: string;
  /** Segments that are full, or end a log that has ended. */
  readonly segments: number;
  /** Of these, from the oldest: older than the period. */
  readonly due: number;
  /** Named by a retention entry. */
  readonly named: number;
  /** Without payloads. */
  readonly dropped: number;
}

export interface RetainedTenant {
  readonly tenant: string;
  readonly logs: readonly RetainedLog[];
  /** For people; null when nothing is going on. */
  readonly waitsFor: string | null;
}

export interface Retention {
  /** Null: payloads are kept for ever. */
  readonly periodDays: number | null;
  readonly state: () => Promise<readonly RetainedTenant[]>;
  /**
   * Writes a retention entry into the ledger of each tenant with segments that are older than the period and not named
   * yet. Rejects with `state_conflict` when no period is set.
   */
  readonly begin: (by: string) => Promise<readonly RetainedTenant[]>;
}

/** The payload of a retention entry: what of which logs may go, all that went before included. */
export const retentionDocument = (
  of: { readonly tenant: string; readonly by: string; readonly periodDays: number; readonly own: string },
  segments: ReadonlyMap<string, number>,
): Readonly<Record<string, unknown>> => {
  const rangesOf = (count: number) => (count === 0 ? [] : [['0', String(BigInt(count) * SEGMENT - 1n)]]);
  const earlier = [...segments].filter(([log, count]) => log !== of.own && count > 0);
  return {
    reason: 'retention',
    tenant: of.tenant,
    by: of.by,
    period_days: String(of.periodDays),
    ...(of.periodDays < RETENTION_FLOOR_DAYS ? { below_floor: true } : {}),
    ranges: rangesOf(segments.get(of.own) ?? 0),
    ...(earlier.length === 0 ? {} : { earlier: earlier.map(([log, count]) => ({ log, ranges: rangesOf(count) })) }),
  };
};
