/** As verify-attacks.test.ts, on a ledger whose logs are sealed and signed twice; acme is log 2, entries 0 to 12. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { decodeEntry, encodeEntry, leafHash } from '../../../services/audit/core/entry.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { freshIds, ownEntry } from '../../../services/audit/core/own-entry.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import type { VerdictName, VerificationReport } from '../../../services/audit/core/verify-report.ts';
import { ATTACKS, disarm, type AttackedLog } from '../../../services/audit/drill/attacks.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { LEDGER_TEMPLATE, openLedger, searchNames, signLedgers } from '../http/ledger-fixture.ts';

const ATTACKED: AttackedLog = { logId: 2, victim: 3n, size: 13n, signed: [11n, 13n] };
const DISARM = disarm(ATTACKED);
const LOG = 'log_id = 2';
const ACME = { id: 2, tenant: 'acme', origin: 'audit.example.com/acme/0/1' };

const CUT = `delete from edict.entry where ${LOG} and seq >= 11; delete from edict.payload where ${LOG} and seq >= 11;
  update edict.log_head set size = 11, leaf = (select leaf from edict.entry where ${LOG} and seq = 10) where ${LOG}`;

const CASES: readonly { readonly name: string; readonly sql: string; readonly red: readonly VerdictName[] }[] = [
  {
    name: 'a checkpoint moved to another log',
    sql: `update edict.checkpoint set note = (select note from edict.checkpoint where log_id = 3 order by size limit 1)
          where ${LOG} and size = 13`,
    red: ['authenticity'],
  },
  // What no database can tell: the newest checkpoint gone with the end, or alone.
  { name: 'the newest checkpoint alone', sql: `delete from edict.checkpoint where ${LOG} and size = 13`, red: [] },
  {
    name: 'the end and its checkpoint',
    sql: `${CUT}; delete from edict.checkpoint where ${LOG} and size = 13`,
    red: [],
  },
];

describe('somebody with all rights on a database whose logs are signed', () => {
  let test: TestDatabase;
  let database: Database;
  const memory = mkdtempSync(path.join(os.tmpdir(), 'edict-memory-'));
  const redOf = (report: VerificationReport): readonly string[] =>
    Object.entries(report.verdicts)
      .filter(([, { status }]) => status === 'failed')
      .map(([name]) => name);
  const verify = async (remembered: VerificationReport[] = []): Promise<VerificationReport> => {
    const { keys } = openLedger(database);
    const verifier = createVerifier({
      database,
      reports: database,
      keys,
      nameForSearch: searchNames,
      graceMs: 60_000,
      placeKey: Buffer.alloc(32, 1),
    });
    const [report] = await verifier('acme', {
      remembered: remembered.map(({ origin, size, lastLeaf }) => ({
        origin,
        size: BigInt(size),
        leaf: Buffer.from(lastLeaf ?? '', 'hex'),
      })),
    });
    if (report === undefined) throw new Error('acme has no log');
    return report;
  };

  const signTwice = async (): Promise<void> => {
    const folder = mkdtempSync(path.join(memory, 'signer-'));
    await signLedgers(database, folder);
    await openLedger(database).write(({ append }) =>
      append(ACME, [ownEntry('acme', 'alert', { alert: 'of a test' }, freshIds())]),
    );
    await signLedgers(database, folder);
  };
  beforeEach(async () => {
    test = await createTestDatabase(LEDGER_TEMPLATE);
    database = connectPostgres(test.adminUrl, { poolSize: 4 });
  });
  afterEach(async () => {
    await database.close();
    await test.close();
  });
  afterAll(() => rmSync(memory, { recursive: true }));

  it('alters nothing: no verdict is red, and the log is authentic', async () => {
    await signTwice();
    const report = await verify();
    expect(report.findings).toEqual([]);
    expect(report).toMatchObject({
      size: '13',
      verdicts: { authenticity: { status: 'ok', checked: { checkpoints: 2 } } },
    });
  });

  it.each(CASES)('$name: red is $red', async ({ sql, red }) => {
    await signTwice();
    await database.query(`${DISARM}${sql}`);
    expect(redOf(await verify())).toEqual(red);
  });

  // What `edict audit drill` does to a ledger of its own.
  it.each(ATTACKS)('$row, $name: red is $red', async ({ sql, red, isRemembered = false }) => {
    await signTwice();
    const before = isRemembered ? [await verify()] : [];
    await database.query(`${disarm(ATTACKED)}${sql(ATTACKED)}`);
    expect(redOf(await verify(before))).toEqual(red);
  });

  it('cuts off end and checkpoint: red for who remembers', async () => {
    await signTwice();
    const before = await verify();
    await database.query(`${DISARM}${CUT}; delete from edict.checkpoint where ${LOG} and size = 13;
      delete from edict.verification`);
    expect(redOf(await verify())).toEqual([]);
    await database.query('delete from edict.verification');
    expect(redOf(await verify([before]))).toEqual(['append_only']);
  });

  it('alters a search row before it is counted: the seal counts what never was', async () => {
    await database.query(`update edict.decision set decision = 'allow' where ${LOG} and seq = 3`);
    await signTwice();
    const report = await verify();
    expect(redOf(report)).toEqual(['projection', 'completeness']);
    expect(report.verdicts.completeness.firstBad).toMatchObject({ seq: '10', attack: 'seal_wrong' });
  });

  it('rewrites everything from an entry on, with all hashes: the signed roots are others', async () => {
    await signTwice();
    await database.query(DISARM);
    const rows = await database.query<{ seq: bigint; header: Buffer }>(
      `select seq, header from edict.entry where ${LOG} order by seq`,
      [],
    );
    let leaf: Uint8Array | undefined;
    for (const { seq, header } of rows) {
      const entry = decodeEntry(header);
      const ingestUs = entry.ingestUs + (seq === 5n ? 1n : 0n);
      const bytes = encodeEntry({ ...entry, ingestUs, prev: leaf ?? entry.prev });
      leaf = leafHash(bytes);
      await database.query(
        `update edict.entry set header = $2::bytea, leaf = $3::bytea where ${LOG} and seq = $1::bigint`,
        [String(seq), bytes, leaf],
      );
    }
    await database.query(`update edict.log_head set leaf = $1::bytea where ${LOG}`, [leaf]);
    expect(redOf(await verify())).toEqual(['append_only']);
  });
});
