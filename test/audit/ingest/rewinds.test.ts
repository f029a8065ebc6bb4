import { createLedgerWriter } from '../../../services/audit/postgres/ledger-writer.ts';
import { createIngest } from '../../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../../services/audit/ingest/metrics.ts';
import { createRewinds, type Rewinds } from '../../../services/audit/ingest/rewinds.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import { decryptPayload } from '../../../services/audit/core/payload.ts';
import { decodeEntry } from '../../../services/audit/core/entry.ts';
import { bytesToUuid } from '../../../services/shared/contracts/uuid.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { runStatements } from '../../support/postgres.ts';
import { createEmitter, messageOf } from '../core/ingest-fixtures.ts';
import { openTestLedger, silent } from './fixtures.ts';

describe('a database that lost commits while the service runs', () => {
  it('is noticed and entered, what the source has is read again, what was acknowledged is asked for', async () => {
    const { harness, test, close } = await openTestLedger(['edict', 'acme']);
    const { database, keys, nameForSearch } = harness;
    const name = new URL(test.adminUrl).pathname.slice(1);
    const server = new URL(test.adminUrl);
    server.pathname = '/postgres';
    const asServer = (...statements: readonly string[]) => runStatements(server.href, ...statements);
    const cutOff = `select pg_terminate_backend(pid) from pg_stat_activity where datname in ('${name}', '${name}_old')`;
    try {
      const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
      let reclaimed = 0;
      const writeLedger = createLedgerWriter({
        database,
        keys,
        nameForSearch,
        nowUs,
        onRewound: (...lost) => rewinds.noticed(...lost),
      });
      const ingest = createIngest({
        database,
        writeLedger,
        nowUs,
        batch: 100,
        gapGraceMs: 60_000,
        pinned: [],
        isCommitDurable: true,
        onCommitted: () => undefined,
        logger: silent,
        metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
      });
      const rewinds: Rewinds = createRewinds({
        writeLedger,
        logs: ingest.logs,
        reclaim: () => {
          reclaimed += 1;
          return reclaimed === 1 ? Promise.reject(new Error('not now')) : Promise.resolve();
        },
        ids: freshIds(),
        logger: silent,
      });
      const emitter = createEmitter();
      const messages = Array.from({ length: 12 }, (_, n) => messageOf(emitter.event('acme'), BigInt(n)));
      const take = (from: number, to: number) => ingest.take(messages.slice(from, to), () => Promise.resolve(true));
      await take(0, 5);
      await asServer(cutOff, `create database "${name}_old" template "${name}"`);
      await take(5, 10);
      expect(await rewinds.enter()).toBe(0);
      // What a replica that was behind has in its place.
      await asServer(
        cutOff,
        `alter database "${name}" rename to "${name}_lost"`,
        `alter database "${name}_old" rename to "${name}"`,
      );
      expect(await take(10, 12)).toEqual({ nextOffset: 5n, fenced: true });
      expect(await take(5, 12)).toEqual({ nextOffset: 12n, fenced: false });
      expect(await harness.kinds('acme')).toEqual(['incarnation', ...Array.from({ length: 12 }, () => 'decision')]);
      // Tried again until it is done.
      await expect(rewinds.enter()).rejects.toThrow('not now');
      expect(await rewinds.enter()).toBe(1);
      expect(await rewinds.enter()).toBe(0);
      expect(await harness.kinds('edict')).toEqual(['incarnation', 'alert']);
      const [row] = await database.query<{ header: Buffer; ciphertext: Buffer; origin: string }>(
        `select e.header, p.ciphertext, l.origin from edict.entry e join edict.payload p using (log_id, segment, seq)
         join edict.log l on l.id = e.log_id where l.tenant = 'edict' and e.seq = 1`,
        [],
      );
      const place = { seq: 1n, eventId: bytesToUuid(decodeEntry(row!.header).eventId) };
      const [found] = await keys.find({ tenant: 'edict', origin: row!.origin }, [place]);
      const payload = decryptPayload(found![0]!, { origin: row!.origin, ...place }, row!.ciphertext);
      expect(JSON.parse(payload!.bytes.toString())).toMatchObject({
        alert: 'database_rewound',
        tenant: 'acme',
        committed_size: '11',
        found_size: '6',
      });
    } finally {
      await asServer(
        `drop database if exists "${name}_lost" with (force)`,
        `drop database if exists "${name}_old" with (force)`,
      );
      await close();
    }
  }, 60_000);
});
