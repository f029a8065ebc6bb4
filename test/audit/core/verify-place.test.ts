import { fromHex } from '../../../services/shared/contracts/bytes.ts';
import { formatVkey, generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { openPlace, sealPlace, type Place, type SealedPlace } from '../../../services/audit/core/verify-place.ts';
import { verifyLog } from '../../../services/audit/core/verify.ts';
import type { VerifyInput } from '../../../services/audit/core/verify-input.ts';
import { createTestLog, ORIGIN, type TestLog } from './verify-log.ts';
import { newLog, sign } from './verify-signed-log.ts';

const KEY = Buffer.alloc(32, 3);
const LOG = { tenant: 'acme', origin: ORIGIN };
const VERIFIED_AT = '2026-01-01T00:00:00.000Z';

/** Every place that a verification gives away, through seal and file and back. */
const placesOf = async (input: VerifyInput): Promise<readonly Place[]> => {
  const places: Place[] = [];
  let now = 0;
  await verifyLog({
    ...input,
    now: () => (now += 3_000) - 3_000 + input.now(),
    onPlace: (place) => {
      const sealed = sealPlace(KEY, LOG, place, VERIFIED_AT);
      if (sealed === undefined) throw new Error('too long');
      const opened = openPlace(KEY, LOG, JSON.parse(JSON.stringify(sealed)) as SealedPlace);
      if (opened === undefined) throw new Error('not opened');
      places.push(opened);
    },
  });
  return places;
};

/** Goes on behind a place, as the service does. */
const goOn = (log: TestLog, input: VerifyInput, place: Place, change: Partial<VerifyInput> = {}) => {
  const { size } = place.tree;
  const checkpoint = log.rows[Number(size) - 1]?.checkpoint;
  return verifyLog({
    ...input,
    pages: [log.rows.slice(Number(size))],
    from: { place, verifiedAt: VERIFIED_AT, checkpoint },
    ...change,
  });
};

const redOf = ({ verdicts }: Awaited<ReturnType<typeof verifyLog>>): readonly string[] =>
  Object.entries(verdicts)
    .filter(([, { status }]) => status === 'failed')
    .map(([name]) => name);

describe('a verification that goes on', () => {
  it('behind any checkpoint comes to the same root and the same verdicts, and says what it did not read', async () => {
    const { log, input } = newLog();
    const whole = await verifyLog(input());
    const places = await placesOf(input());
    expect(places.map(({ tree }) => tree.size)).toEqual([5n, 8n]);
    for (const place of places) {
      const rest = await goOn(log, input(), place);
      expect(rest.findings).toEqual([]);
      expect([rest.root, rest.lastLeaf, rest.checkpoint]).toEqual([whole.root, whole.lastLeaf, whole.checkpoint]);
      expect(Object.values(rest.verdicts).map(({ status }) => status)).toEqual(
        Object.values(whole.verdicts).map(({ status }) => status),
      );
      expect(rest.since).toMatchObject({ size: String(place.tree.size), verifiedAt: VERIFIED_AT });
      expect(rest.verdicts.integrity.checked['entries']).toBe(9 - Number(place.tree.size));
    }
  });

  it('still follows numbers and links over the place', async () => {
    const { log, input } = newLog();
    const [place] = await placesOf(input());
    if (place === undefined) throw new Error('no place');
    const { highest, digests } = place.streams.streams[0] ?? {};
    expect([highest, digests?.length]).toEqual([3n, 1]);
    const gap = {
      ...place,
      streams: {
        ...place.streams,
        streams: place.streams.streams.map((stream) => ({ ...stream, highest: 2n, seen: [[1n, 2n]] as const })),
      },
    };
    expect(redOf(await goOn(log, input(), gap))).toEqual(['completeness']);
    const other = place.streams.streams.map((stream) => ({
      ...stream,
      digests: stream.digests.map(([number, { seq }]) => [number, { seq, digest: Buffer.alloc(32) }] as const),
    }));
    expect(redOf(await goOn(log, input(), { ...place, streams: { ...place.streams, streams: other } }))).toEqual([
      'completeness',
    ]);
  });

  it('gives no place away once something was found', async () => {
    const { log, input } = newLog();
    const row = log.rows[5];
    if (row === undefined) throw new Error('no row');
    row.search = [];
    expect((await placesOf(input())).map(({ tree }) => tree.size)).toEqual([5n]);
  });

  it('goes red when the log does not go on from there, whatever the place says', async () => {
    const { log, input } = newLog();
    const [place] = await placesOf(input());
    if (place === undefined) throw new Error('no place');
    const forged = { ...place, tree: { ...place.tree, subtrees: place.tree.subtrees.map(() => Buffer.alloc(32, 1)) } };
    expect(redOf(await goOn(log, input(), forged))).toEqual(['append_only']);
    const from = { place, verifiedAt: VERIFIED_AT };
    const without = await goOn(log, input(), place, { from: { ...from, checkpoint: undefined } });
    expect(without.findings).toMatchObject([{ verdict: 'append_only', attack: 'checkpoint_removed', seq: '4' }]);
    const checkpoint = { size: 5n, root: Buffer.alloc(32), note: Buffer.alloc(0) };
    const another = await goOn(log, input(), place, { from: { ...from, checkpoint } });
    expect(another.findings).toMatchObject([
      { verdict: 'authenticity', attack: 'checkpoint_forged', seq: '4' },
      { verdict: 'append_only', attack: 'history_rewritten', seq: '4' },
    ]);
    // A log that somebody else signed from the beginning does not continue this place.
    const stranger = newLog(4);
    expect(redOf(await goOn(stranger.log, stranger.input(), place))).toContain('append_only');
  });

  it('goes red when the database names another key than the one that signed up to there', async () => {
    const log = createTestLog();
    log.decision();
    const [place] = await placesOf(log.input({ newest: sign(log) }));
    if (place === undefined) throw new Error('no place');
    log.decision();
    const { key } = generateSigningKey();
    const facts = { ...log.input({}).log, vkey: formatVkey(ORIGIN, key.publicKey) };
    const { findings } = await goOn(log, log.input({ newest: sign(log, {}, key), log: facts }), place);
    expect(findings).toMatchObject([
      { verdict: 'integrity', what: 'genesis hash of the log', attack: 'log_relabelled', seq: '2' },
      { verdict: 'authenticity', attack: 'checkpoint_forged', seq: '2' },
    ]);
  });

  it('takes no place that was altered, or that is of another log, tenant or service', async () => {
    const { log, input } = newLog();
    sign(log);
    const [place] = await placesOf(input());
    if (place === undefined) throw new Error('no place');
    const sealed = sealPlace(KEY, LOG, place, VERIFIED_AT);
    if (sealed === undefined) throw new Error('too long');
    expect(openPlace(KEY, LOG, sealed)).toEqual(place);
    for (const altered of [
      { ...sealed, size: '6' },
      { ...sealed, root: '00'.repeat(32) },
      { ...sealed, verifiedAt: '2027-01-01T00:00:00.000Z' },
      { ...sealed, state: sealed.state.replace('"highest":{"$n":"3"}', '"highest":{"$n":"9"}') },
      { ...sealed, mac: '' },
    ]) {
      expect(altered).not.toEqual(sealed);
      expect(openPlace(KEY, LOG, altered)).toBeUndefined();
    }
    expect(openPlace(KEY, { ...LOG, tenant: 'globex' }, sealed)).toBeUndefined();
    expect(openPlace(KEY, { ...LOG, origin: 'other' }, sealed)).toBeUndefined();
    expect(openPlace(fromHex('00'.repeat(32)), LOG, sealed)).toBeUndefined();
  });
});
