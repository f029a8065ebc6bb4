/** Payloads that go while a ledger is verified. acme is log 2: alice's decisions are entries 1, 2 and 9. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Database } from '../../../services/audit/core/database.ts';
import { freshIds, ownEntry } from '../../../services/audit/core/own-entry.ts';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import { createEraser } from '../../../services/audit/erasure/eraser.ts';
import { createErasures } from '../../../services/audit/erasure/requests.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { LEDGER_TEMPLATE, ledgerKeys, openLedger, searchNames, signLedgers } from '../http/ledger-fixture.ts';
import { silent } from '../ingest/fixtures.ts';

const ACME = { id: 2, tenant: 'acme', origin: 'audit.example.com/acme/0/1' };
const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;

let test: TestDatabase;
let database: Database;
let keys: PayloadKeys;
let memory: string;

beforeEach(async () => {
  test = await createTestDatabase(LEDGER_TEMPLATE);
  database = connectPostgres(test.adminUrl, { poolSize: 4 });
  ({ keys } = openLedger(database));
  memory = mkdtempSync(path.join(os.tmpdir(), 'edict-memory-'));
});
afterEach(async () => {
  await database.close();
  await test.close();
  rmSync(memory, { recursive: true });
});

const newEraser = () =>
  createEraser({
    database,
    keys,
    writeLedger: openLedger(database).write,
    nameForSearch: searchNames,
    nowUs,
    logger: silent,
  });

const requestErasure = async (): Promise<void> => {
  const erasures = createErasures({ database, keys, nowUs, expiryMs: 3_600_000, copies: [] });
  const [ann, ben] = ['ann', 'ben'].map((name) => ({ name, isAuthenticated: true }));
  const scope = { subject: { issuer: '', type: 'user', id: 'alice' } };
  const { id } = await erasures.request('acme', ann!, { scope, reference: 'ticket 7', legalBasis: 'GDPR', copies: [] });
  await erasures.approve('acme', id, ann!);
  await erasures.approve('acme', id, ben!);
};

/** Verifies, and does something once when the payloads of acme's first log are about to be read. */
const verifyWhile = async (work: () => Promise<void>) => {
  let isDone = false;
  const find: PayloadKeys['find'] = async (log, references) => {
    if (log.origin === ACME.origin && !isDone) {
      isDone = true;
      await work();
    }
    return keys.find(log, references);
  };
  const reports = await createVerifier({
    database,
    reports: database,
    keys: { ...keys, find },
    nameForSearch: searchNames,
    graceMs: 60_000,
    placeKey: Buffer.alloc(32, 1),
  })('acme', {});
  return reports.map(({ origin, findings, verdicts: { lifecycle } }) => [
    origin,
    findings.map(({ what }) => what),
    lifecycle.status,
    lifecycle.checked['payloads_gone'],
  ]);
};

describe('payloads that go while a ledger is verified', () => {
  it('may, by the last of more entries than are read at once', async () => {
    await requestErasure();
    expect(
      await verifyWhile(async () => {
        const { write } = openLedger(database);
        const other = { tenant: 'acme', reason: 'request', ranges: [] };
        await write(({ append }) =>
          append(
            ACME,
            Array.from({ length: 1_000 }, () => ownEntry('acme', 'erasure', other, freshIds())),
          ),
        );
        await newEraser().advance();
        await signLedgers(database, memory);
        await newEraser().advance();
      }),
    ).toEqual([[ACME.origin, [], 'not_checked', 3]]);
  });

  it('may, by an entry that comes into a newer log', async () => {
    await signLedgers(database, memory);
    const { log } = await createLedger({
      write: openLedger(database).write,
      tenant: 'acme',
      authority: 'audit.example.com',
      keyFile: (name, incarnation) => path.join(memory, `${name}-${incarnation}.pem`),
      nowUs,
      newIncarnation: true,
    });
    const first = ledgerKeys.get('acme') ?? '';
    ledgerKeys.set('acme', readFileSync(path.join(memory, 'acme-2.pem'), 'utf8'));
    try {
      await requestErasure();
      expect(
        await verifyWhile(async () => {
          await newEraser().advance();
          await signLedgers(database, memory);
          await newEraser().advance();
        }),
      ).toEqual([
        [log.origin, [], 'ok', 0],
        [ACME.origin, [], 'not_checked', 3],
      ]);
    } finally {
      ledgerKeys.set('acme', first);
    }
  });
});
