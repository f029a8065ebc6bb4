import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { createEmitter, messageOf, type MadeEvent } from '../core/ingest-fixtures.ts';
import { openTestLedger } from './fixtures.ts';

describe('the state of the ingest', () => {
  it('says what the log proves, whatever came in whatever order', async () => {
    const { harness, close } = await openTestLedger(['edict', 'acme', 'globex']);
    try {
      const ingest = harness.newIngest({ batch: 7 });
      const [one, two, gone] = [createEmitter(), createEmitter(3n), createEmitter()];
      const some = (emitter: typeof one, tenant: string, count: number): readonly MadeEvent[] =>
        Array.from({ length: count }, () => emitter.event(tenant));
      const acme = some(one, 'acme', 20);
      const foreign = { ...(acme[4] as MadeEvent), bytes: Buffer.from('{"not":"an event"}') };
      const messages = [
        one.event('edict', { type: 'edict.start.v1' }),
        ...acme.slice(0, 3),
        foreign,
        ...acme.slice(8),
        ...acme.slice(6, 7),
        acme[1] as MadeEvent,
        ...some(two, 'globex', 4),
        two.event('nobody'),
        one.event('edict', { type: 'edict.start.v1', signedBy: generateSigningKey().key }),
        one.event('acme', { type: 'edict.lost.v1', data: { lost: [{ boot: '1', from: '4', to: '4' }] } }),
        ...some(gone, 'acme', 3).slice(1),
        two.event('globex', {
          type: 'edict.heartbeat.v1',
          data: { state: 'active', recovered: [{ boot: '1', sequence: '9', digest: 'ab'.repeat(32) }] },
        }),
      ];
      let offset = 0n;
      const take = async (events: readonly Pick<MadeEvent, 'bytes' | 'headers'>[]): Promise<void> => {
        const batch = events.map((event) => messageOf(event, offset++));
        await ingest.take(batch, () => Promise.resolve(true));
      };
      await take(messages);
      harness.clock.ms += 120_000;
      expect(await ingest.writeGaps()).toBeGreaterThan(0);
      await take(acme.slice(5, 6));
      await ingest.retire(gone.id, 'somebody');
      const verify = createVerifier({
        database: harness.database,
        reports: harness.database,
        keys: harness.keys,
        nameForSearch: harness.nameForSearch,
        graceMs: 60_000,
        placeKey: Buffer.alloc(32, 1),
        now: () => harness.clock.ms,
      });
      for (const tenant of ['edict', 'acme', 'globex']) {
        const [report] = await verify(tenant, {});
        expect(report?.findings.filter(({ verdict }) => verdict === 'projection')).toEqual([]);
        expect(report?.verdicts.projection.checked['streams']).toBeGreaterThan(0);
      }
      expect(await harness.kinds('acme')).toEqual(
        expect.arrayContaining(['emitter', 'gap', 'heal', 'lost', 'quarantine', 'decision']),
      );
    } finally {
      await close();
    }
  }, 60_000);
});
