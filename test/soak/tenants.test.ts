import { createIngest } from '../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../services/audit/ingest/metrics.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { createEmitter, messageOf } from '../audit/core/ingest-fixtures.ts';
import { fsckLogs } from '../audit/http/fsck-logs.ts';
import { silent } from '../audit/ingest/fixtures.ts';
import { openSigningFixture } from '../audit/signer/signing-fixture.ts';

const TENANTS = 1_000;

describe('a thousand tenants', () => {
  it('are each sealed and signed, and cost nothing while nothing happens in them', async () => {
    const fixture = await openSigningFixture();
    const { ledger, sealer, newSigner } = fixture;
    const took = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
      const startedMs = performance.now();
      const result = await work();
      process.stdout.write(`${what}: ${(performance.now() - startedMs).toFixed(0)} ms\n`);
      return result;
    };
    try {
      const tenants = Array.from({ length: TENANTS }, (_, n) => `tenant-${n}`);
      await took(`${TENANTS} ledgers made`, async () => {
        for (const tenant of tenants) await ledger.createTenant(tenant);
      });
      const ingest = createIngest({
        database: ledger.as('writer'),
        writeLedger: ledger.write,
        nowUs: () => BigInt(Date.now()) * 1_000n,
        batch: 500,
        gapGraceMs: 60_000,
        pinned: [],
        isCommitDurable: true,
        onCommitted: () => undefined,
        logger: silent,
        metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
      });
      const emitter = createEmitter();
      let offset = 0n;
      const take = (of: readonly string[]) =>
        ingest.take(
          of.map((tenant) => messageOf(emitter.event(tenant), (offset += 1n) - 1n)),
          () => Promise.resolve(true),
        );
      await took(`${2 * TENANTS} events, two of each tenant`, () => take([...tenants, ...tenants]));
      // With acme and the system ledger.
      expect(await took('a round of seals', sealer.sealAll)).toBe(TENANTS + 2);
      const signer = newSigner();
      await took('a round of the signer', () => signer.signAll());
      expect(await took('seals, nothing new', sealer.sealAll)).toBe(0);
      await took('the signer, nothing new', () => signer.signAll());
      await take(['tenant-7']);
      expect(await took('seals, one tenant', sealer.sealAll)).toBe(1);
      await took('the signer, one tenant', () => signer.signAll());
      const signed = await ledger.as('reader_all').query<{ logs: number; checkpoints: number; largest: number }>(
        `select count(distinct log_id)::int as logs, count(*)::int as checkpoints, max(size)::int as largest
           from edict.checkpoint`,
        [],
      );
      expect(signed).toEqual([{ logs: TENANTS + 2, checkpoints: TENANTS + 3, largest: 6 }]);
      expect([...signer.refused()]).toEqual([]);
      expect(await fsckLogs(ledger, ['tenant-0', 'tenant-7', 'tenant-999'])).toMatchObject(
        Array.from({ length: 3 }, () => ({ code: 0 })),
      );
    } finally {
      await ledger.close();
    }
  }, 3_600_000);
});
