import type { Caller } from '../../shared/settings/schema.ts';

export interface RateLimits {
  /** Takes one decision from a caller's quota: 0, or the seconds to wait when there is none left. */
  readonly take: (caller: Caller) => number;
  /** Charges what a batch brought beyond the one that let it in: a debt that later requests wait for. */
  readonly charge: (caller: Caller, count: number) => void;
  /** Forgets callers that are no longer known. */
  readonly keep: (ids: ReadonlySet<string>) => void;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

/**
 * One token bucket a caller, refilled with `rate_per_s`, holding one second’s worth. Each of several workers has its own
 * and refills it with its share, so that all together never give more than the rate; the bucket holds one at least.
 */
export const createRateLimits = (monotonicMs: () => number, workers = 1): RateLimits => {
  const buckets = new Map<string, Bucket>();
  const refilled = (id: string, rate: number): Bucket => {
    const nowMs = monotonicMs();
    const room = Math.max(1, rate);
    const bucket = buckets.get(id) ?? { tokens: room, atMs: nowMs };
    bucket.tokens = Math.min(room, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * rate);
    bucket.atMs = nowMs;
    buckets.set(id, bucket);
    return bucket;
  };
  return {
    take({ id, rate_per_s: whole }) {
      if (whole === undefined) return 0;
      const rate = whole / workers;
      const bucket = refilled(id, rate);
      if (bucket.tokens < 1) return Math.max(1, Math.ceil((1 - bucket.tokens) / rate));
      bucket.tokens -= 1;
      return 0;
    },
    charge({ id, rate_per_s: whole }, count) {
      if (whole !== undefined) refilled(id, whole / workers).tokens -= count;
    },
    keep(ids) {
      for (const id of buckets.keys()) if (!ids.has(id)) buckets.delete(id);
    },
  };
};
