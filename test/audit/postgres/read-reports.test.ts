/** A red report is not hidden by a green one that did not read what it is about. acme is log 2. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Database } from '../../../services/audit/core/database.ts';
import type { SealedPlace } from '../../../services/audit/core/verify-place.ts';
import { hasFailed } from '../../../services/audit/core/verify-report.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { readReports } from '../../../services/audit/postgres/read-reports.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { LEDGER_TEMPLATE, openLedger, searchNames, signLedgers } from '../http/ledger-fixture.ts';

let test: TestDatabase;
let database: Database;
let memory: string;

beforeEach(async () => {
  test = await createTestDatabase(LEDGER_TEMPLATE);
  database = connectPostgres(test.adminUrl, { poolSize: 4 });
  memory = mkdtempSync(path.join(os.tmpdir(), 'edict-memory-'));
});
afterEach(async () => {
  await database.close();
  await test.close();
  rmSync(memory, { recursive: true });
});

it('a failed verification lets nobody go on from a place before it, until everything passes again', async () => {
  await signLedgers(database, memory);
  // A minute each, so that no two reports are of one time.
  let now = Date.now();
  const places: SealedPlace[] = [];
  const verify = async (from: readonly SealedPlace[]) => {
    now += 60_000;
    const [report] = await createVerifier({
      database,
      reports: database,
      keys: openLedger(database).keys,
      nameForSearch: searchNames,
      graceMs: 3_600_000,
      placeKey: Buffer.alloc(32, 1),
      now: () => now,
    })('acme', { places: from, onPlace: (place) => void places.push(place) });
    if (report === undefined) throw new Error('no report');
    return [hasFailed(report), report.since === undefined];
  };
  const kept = async () => (await readReports(database, 'acme')).map((report) => hasFailed(report));
  const setAction = (from: string, to: string): Promise<unknown> =>
    database.query('update edict.decision set action = $2 where log_id = 2 and action = $1', [from, to]);

  expect(await verify([])).toEqual([false, true]);
  const place = places.slice(-1);
  expect(await verify(place)).toEqual([false, false]);
  await setAction('read', 'altered');
  // What nobody reads again is not seen: that is what going on means.
  expect(await verify(place)).toEqual([false, false]);
  expect(await verify([])).toEqual([true, true]);
  expect(await verify(place)).toEqual([true, true]);
  await setAction('altered', 'read');
  expect(await kept()).toEqual([true]);
  expect(await verify(place)).toEqual([false, true]);
  expect(await kept()).toEqual([false]);
  expect(await verify(place)).toEqual([false, false]);

  await database.query(
    `update edict.verification set report = jsonb_set(report, '{verdicts,clock,status}', '"failed"')
     where started_us = (select max(started_us) from edict.verification) - 60000000`,
    [],
  );
  // A green report that did not read everything stands before the red one.
  expect(await kept()).toEqual([false, true]);
});
