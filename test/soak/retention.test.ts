/** A real full segment: named, signed, dropped, and everything verifies from entry 0. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { NewEntry } from '../../services/audit/core/append.ts';
import type { Database } from '../../services/audit/core/database.ts';
import { freshIds, ownEntry } from '../../services/audit/core/own-entry.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createLedgerWriter } from '../../services/audit/postgres/ledger-writer.ts';
import { createVerifier } from '../../services/audit/postgres/read-verification.ts';
import { createRetention } from '../../services/audit/retention/retention.ts';
import { LEDGER_TEMPLATE, openLedger, searchNames, signLedgers } from '../audit/http/ledger-fixture.ts';
import { silent } from '../audit/ingest/fixtures.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const INITECH = { id: 4, tenant: 'initech', origin: 'audit.example.com/initech/0/1' };
const DAY_US = 86_400_000_000n;

describe('retention of a full segment', () => {
  let test: TestDatabase;
  let database: Database;
  const memory = mkdtempSync(path.join(os.tmpdir(), 'edict-memory-'));

  beforeAll(async () => {
    test = await createTestDatabase(LEDGER_TEMPLATE);
    database = connectPostgres(test.adminUrl, { poolSize: 4 });
  });
  afterAll(async () => {
    await database.close();
    await test.close();
    rmSync(memory, { recursive: true });
  });

  it('leaves every header, and a log that verifies from entry 0 and goes on', async () => {
    const { keys, write } = openLedger(database);
    const filling = (n: number): NewEntry[] =>
      Array.from({ length: n }, () => ownEntry('initech', 'alert', { alert: 'of a test' }, freshIds()));
    for (let left = 65_600; left > 0; left -= 5_000) {
      await write(({ append }) => append(INITECH, filling(Math.min(left, 5_000))));
      await signLedgers(database, memory);
    }
    const later = (): bigint => BigInt(Date.now()) * 1_000n + 200n * DAY_US;
    const writeLater = createLedgerWriter({ database, keys, nameForSearch: searchNames, nowUs: later });
    const retention = createRetention({
      database,
      maintainer: database,
      writeLedger: writeLater,
      keys,
      periodDays: 190,
      nowUs: later,
      logger: silent,
    });
    // The segment is old for the retention, and for the database too, whose clock nobody moves.
    await database.query('update edict.retention_floor set days = 0');
    const begun = await retention.begin('op');
    expect(begun.find(({ tenant }) => tenant === 'initech')).toMatchObject({
      logs: [{ due: 1, named: 1, dropped: 0 }],
    });
    expect(await retention.advance()).toBe(0);
    await signLedgers(database, memory);
    expect(await retention.advance()).toBe(1);

    const verify = createVerifier({
      database,
      reports: database,
      keys,
      nameForSearch: searchNames,
      graceMs: 60_000,
      placeKey: Buffer.alloc(32, 1),
      now: () => Number(later() / 1_000n) + 1_000,
    });
    const [report] = await verify('initech', {});
    expect(report?.findings).toEqual([]);
    expect(report?.verdicts.lifecycle).toMatchObject({ status: 'ok', checked: { payloads_gone: 65_536 } });
    expect(report?.verdicts.integrity.checked['entries']).toBe(Number(report?.size));
    // A signer without memory reads all of it, and signs what comes.
    await writeLater(({ append }) => append(INITECH, filling(1)));
    await signLedgers(database, mkdtempSync(path.join(memory, 'fresh-')));
    expect(await database.query('select * from edict.signer_alarm', [])).toEqual([]);

    // More than the entry names, or before its period, is red.
    await database.query(`alter table edict.payload_l4_s1 disable trigger all;
      delete from edict.payload where log_id = 4 and seq = 65540`);
    const [tampered] = await verify('initech', {});
    expect(tampered?.verdicts.lifecycle).toMatchObject({ status: 'failed', failures: 1, firstBad: { seq: '65540' } });
  }, 600_000);
});
