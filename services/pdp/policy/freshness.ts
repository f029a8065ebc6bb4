import type { FreshnessState } from '../core/freshness.ts';

/** What the settings say of a set that its source has not confirmed for long. */
export interface StalenessRule {
  /** Undefined: no set is ever stale. */
  readonly maxMs: number | undefined;
  /** `deny` turns each allow into a deny, `flag` adds a reason, `serve` shows in the status only. */
  readonly whenStale: 'deny' | 'flag' | 'serve';
}

export const NEVER_STALE: StalenessRule = { maxMs: undefined, whenStale: 'serve' };

/** What is known of an active set. */
export interface SetAge {
  /** When the source last had exactly this set, milliseconds since 1970. */
  readonly confirmedMs: number;
  /** The bundle that expires first; undefined when none does. */
  readonly expiry: { readonly name: string; readonly atMs: number } | undefined;
}

const FRESH: FreshnessState = { state: 'fresh', untilMs: undefined };
const iso = (ms: number): string => new Date(ms).toISOString();

/** Undefined while the source confirmed the set within the limit. */
export const staleSince = ({ confirmedMs }: SetAge, { maxMs }: StalenessRule, nowMs: number): number | undefined =>
  maxMs !== undefined && nowMs - confirmedMs > maxMs ? confirmedMs : undefined;

/** What an answer of this set may say now. An expired bundle permits nothing, whatever the rule for stale ones. */
export const freshnessOf = (age: SetAge, rule: StalenessRule, nowMs: number): FreshnessState => {
  const { expiry } = age;
  if (expiry !== undefined && nowMs >= expiry.atMs) {
    const message = `The bundle ${expiry.name} expired at ${iso(expiry.atMs)}.`;
    return { state: 'stale', denies: true, message };
  }
  const { maxMs, whenStale } = rule;
  const since = whenStale === 'serve' ? undefined : staleSince(age, rule, nowMs);
  if (since !== undefined) {
    const message = `The policy was last confirmed by its source at ${iso(since)}, which is too long ago.`;
    return { state: 'stale', denies: whenStale === 'deny', message };
  }
  const limits = [
    ...(expiry === undefined ? [] : [expiry.atMs]),
    ...(maxMs === undefined || whenStale !== 'deny' ? [] : [age.confirmedMs + maxMs]),
  ];
  return limits.length === 0 ? FRESH : { state: 'fresh', untilMs: Math.min(...limits) };
};
