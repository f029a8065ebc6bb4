import { ENTRY_KINDS, type Entry } from '../../../services/audit/core/entry.ts';
import { createGoneTracker } from '../../../services/audit/core/verify-gone.ts';
import { erasure } from './verify-log.ts';

const DAY_US = 86_400_000_000n;
const entryAt = (seq: bigint, kind: keyof typeof ENTRY_KINDS = 'decision', ingestUs = seq * 1_000n): Entry => ({
  kind: ENTRY_KINDS[kind],
  seq,
  ingestUs,
  eventId: new Uint8Array(16),
  topic: '',
  partition: 0,
  offset: 0n,
  emitter: new Uint8Array(16),
  boot: 0n,
  emitterSeq: 0n,
  policySetDigest: new Uint8Array(32),
  commitment: new Uint8Array(32),
  prev: new Uint8Array(32),
});
const UNCOVERED = 'no checkpoint covers that entry';

/** The payloads of entries 3 and 4 are gone; entry 10 says `document`. */
const goneBy = (document: Readonly<Record<string, unknown>>, covered = 20n, more: readonly bigint[] = []) => {
  const tracker = createGoneTracker();
  for (const seq of [3n, 4n, ...more]) tracker.missing(entryAt(seq));
  tracker.named(entryAt(10n, 'erasure'), document);
  return tracker.finish(covered);
};

describe('payloads that are gone', () => {
  it('may be, when two approved an erasure entry that is covered', () => {
    expect(goneBy(erasure([['3', '4']]))).toEqual({ unlawful: [], unproven: 0n, missing: 2n });
  });

  it.each([
    ['nothing names them', erasure([['5', '9']]), 'gone, or its key is'],
    ['one approved', erasure([['3', '4']], { approvers: ['ann'] }), 'one approver'],
    ['one approved twice', erasure([['3', '4']], { approvers: ['ann', 'ann'] }), 'one approver'],
    ['nobody approved', erasure([['3', '4']], { approvers: [] }), 'no approvers'],
    ['nobody asked', erasure([['3', '4']], { request: 'ticket 7' }), 'names no request'],
    ['no law is named', erasure([['3', '4']], { legal_basis: '' }), 'names no legal basis'],
    ['the entry names itself', erasure([['3', '10']]), 'gone, or its key is'],
    ['it claims to be of the same batch', { reason: 'subject_erased_before', ranges: [['3', '4']] }, 'gone'],
  ])('may not be, when %s', (_name, document, why) => {
    const { unlawful } = goneBy(document);
    expect(unlawful).toMatchObject([{ from: 3n, to: 4n, why: expect.stringContaining(why) as string }]);
  });

  it('may not be by a request, when they prove the log itself', () => {
    const document = erasure([['3', '4']]);
    const tracker = createGoneTracker();
    tracker.missing(entryAt(3n));
    tracker.missing(entryAt(4n, 'seal'));
    const resumed = createGoneTracker(tracker.save());
    resumed.named(entryAt(10n, 'erasure'), document);
    expect(resumed.finish(20n).unlawful).toMatchObject([{ from: 4n, to: 4n }]);
    const newer = createGoneTracker();
    newer.named(entryAt(1n, 'erasure'), erasure([], { earlier: [{ log: 'a/b/0/1', ranges: [['3', '4']] }] }));
    expect(tracker.finish(9n, newer.ofEarlier(2n).get('a/b/0/1')).unlawful).toMatchObject([{ from: 4n, to: 4n }]);
  });

  it('may not be before a checkpoint covers the entry', () => {
    expect(goneBy(erasure([['3', '4']]), 10n).unlawful).toMatchObject([
      { from: 3n, why: expect.stringContaining(UNCOVERED) as string },
    ]);
    expect(goneBy(erasure([['3', '4']]), 11n).unlawful).toEqual([]);
  });

  it('names what is gone beside what may be', () => {
    expect(goneBy(erasure([['3', '4']]), 20n, [7n]).unlawful).toMatchObject([{ from: 7n, to: 7n }]);
  });

  it('of somebody who was erased before were never there: named in their own batch, at once', () => {
    const tracker = createGoneTracker();
    tracker.missing(entryAt(2n));
    for (const seq of [5n, 6n, 8n]) tracker.missing(entryAt(seq, 'decision', 77n));
    const document = {
      reason: 'subject_erased_before',
      ranges: [
        ['2', '2'],
        ['5', '6'],
        ['8', '8'],
      ],
    };
    tracker.named(entryAt(9n, 'erasure', 77n), document);
    expect(tracker.finish(0n)).toMatchObject({ unlawful: [{ from: 2n, to: 2n }], unproven: 3n });
    expect(tracker.finish(10n)).toMatchObject({ unlawful: [{ from: 2n, to: 2n }], unproven: 0n });
  });

  it('may not be named as never stored while they are there: that would allow to delete them later', () => {
    const tracker = createGoneTracker();
    tracker.there(entryAt(4n, 'decision', 77n));
    tracker.missing(entryAt(5n, 'decision', 77n));
    for (const seq of [6n, 7n]) tracker.there(entryAt(seq, 'decision', 77n));
    tracker.named(entryAt(8n, 'erasure', 77n), { reason: 'subject_erased_before', ranges: [['5', '7']] });
    expect(tracker.finish(0n).unlawful).toMatchObject([
      { from: 6n, to: 7n, why: expect.stringContaining('a payload that is there') as string },
    ]);
  });

  it('may be named by a newer log, or by an entry that came later', () => {
    const older = createGoneTracker();
    older.missing(entryAt(3n));
    const newer = createGoneTracker();
    newer.named(entryAt(4n, 'erasure'), erasure([], { earlier: [{ log: 'a/b/0/1', ranges: [['3', '3']] }] }));
    expect(older.finish(9n, newer.ofEarlier(4n).get('a/b/0/1')).unlawful).toHaveLength(1);
    expect(older.finish(9n, newer.ofEarlier(5n).get('a/b/0/1')).unlawful).toEqual([]);
    expect(older.finish(9n, [{ ranges: [[3n, 3n]], isProven: false }])).toMatchObject({ unlawful: [], unproven: 1n });
  });
});

describe('payloads that are gone by retention', () => {
  /** A whole segment, ingested at 0. */
  const retained = (document: Readonly<Record<string, unknown>>, afterDays: number, ranges = [['0', '65535']]) => {
    const tracker = createGoneTracker();
    for (let seq = 0n; seq < 65_536n; seq += 1n) tracker.missing(entryAt(seq, 'decision', 0n));
    tracker.named(entryAt(65_540n, 'retention', BigInt(afterDays) * DAY_US), {
      reason: 'retention',
      ranges,
      ...document,
    });
    return tracker.finish(70_000n).unlawful.map(({ why }) => why);
  };

  it('may be after the period that the entry names', () => {
    expect(retained({ period_days: '200' }, 200)).toEqual([]);
    expect(retained({ period_days: '30', below_floor: true }, 31)).toEqual([]);
  });

  it.each([
    ['too early', { period_days: '200' }, 199, 'before the end of its period'],
    ['below the floor without saying so', { period_days: '182' }, 400, 'below 183'],
    ['for no period', {}, 400, 'names no period'],
  ])('may not be %s', (_name, document, afterDays, why) => {
    expect(retained(document, afterDays)).toEqual([expect.stringContaining(why)]);
  });

  it('may not be in parts of segments', () => {
    expect(retained({ period_days: '200' }, 400, [['0', '65534']])).toEqual([
      expect.stringContaining('parts of segments'),
    ]);
  });
});
