import { freshnessOf, staleSince } from '../../../services/pdp/policy/freshness.ts';

const CONFIRMED = Date.UTC(2026, 0, 1);
const age = { confirmedMs: CONFIRMED, expiry: undefined };
const expiring = { confirmedMs: CONFIRMED, expiry: { name: 'mesh', atMs: CONFIRMED + 5_000 } };
const rule = (whenStale: 'deny' | 'flag' | 'serve', maxMs: number | null = 10_000) => ({
  maxMs: maxMs ?? undefined,
  whenStale,
});

describe('the freshness of a set', () => {
  it.each([
    ['without a limit', age, rule('deny', null), 1e12, { state: 'fresh', untilMs: undefined }],
    ['at the limit', age, rule('deny'), 10_000, { state: 'fresh', untilMs: CONFIRMED + 10_000 }],
    ['beyond the limit', age, rule('deny'), 10_001, { state: 'stale', denies: true }],
    ['beyond the limit, flagged', age, rule('flag'), 10_001, { state: 'stale', denies: false }],
    ['beyond the limit, served', age, rule('serve'), 10_001, { state: 'fresh', untilMs: undefined }],
    ['before it expires', expiring, rule('deny'), 4_999, { state: 'fresh', untilMs: CONFIRMED + 5_000 }],
    ['when it expires', expiring, rule('deny'), 5_000, { state: 'stale', denies: true }],
    ['when it expires, though stale sets are served', expiring, rule('serve'), 5_000, { state: 'stale', denies: true }],
    ['when it expires, though nothing gets stale', expiring, rule('flag', null), 5_000, { denies: true }],
    ['after the clock went back', age, rule('deny'), -1e9, { state: 'fresh' }],
  ] as const)('%s', (_what, given, by, afterMs, expected) => {
    expect(freshnessOf(given, by, CONFIRMED + afterMs)).toMatchObject(expected);
  });

  it('names the bundle and the time, for who reads the answer', () => {
    expect(freshnessOf(expiring, rule('deny'), CONFIRMED + 5_000)).toMatchObject({
      message: 'The bundle mesh expired at 2026-01-01T00:00:05.000Z.',
    });
    expect(freshnessOf(age, rule('deny'), CONFIRMED + 20_000)).toMatchObject({
      message: expect.stringContaining('2026-01-01T00:00:00.000Z') as string,
    });
  });

  it('shows to operators what is served', () => {
    expect(staleSince(age, rule('serve'), CONFIRMED + 10_001)).toBe(CONFIRMED);
    expect(staleSince(age, rule('serve', null), CONFIRMED + 1e12)).toBeUndefined();
  });
});
