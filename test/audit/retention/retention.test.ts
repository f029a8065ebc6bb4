/**
 * Retention under the roles that it has on a server. The log is made to look as if it had a full segment, which spares
 * 65,536 entries; `test/soak/retention.test.ts` has them.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../../../services/shared/contracts/signatures.ts';
import { createRetention } from '../../../services/audit/retention/retention.ts';
import { silent } from '../ingest/fixtures.ts';
import { newDecision, openLedgerFixture, type LedgerFixture } from '../postgres/ledger-fixture.ts';

/** The fixture's entries are of November 2023. */
const YEARS_LATER = (): bigint => BigInt(Date.now()) * 1_000n;

describe('retention', () => {
  let ledger: LedgerFixture;
  const newRetention = (periodDays: number | null = 200, nowUs = YEARS_LATER, keys = ledger.keys) =>
    createRetention({
      database: ledger.as('writer'),
      maintainer: ledger.as('maintainer'),
      writeLedger: ledger.write,
      keys,
      periodDays,
      nowUs,
      logger: silent,
    });
  const drop = (segment: number, seq: number) =>
    ledger.as('maintainer').query('select edict.drop_payload_segment(1, $1::int, 1, $2::bigint)', [segment, seq]);
  const count = async (what: string): Promise<number> =>
    Number((await ledger.as('admin').query<{ n: bigint }>(`select count(*) as n from ${what}`, []))[0]?.n);

  beforeAll(async () => {
    ledger = await openLedgerFixture();
    await ledger.write(({ append }) =>
      append(
        ledger.log,
        Array.from({ length: 5 }, () => newDecision()),
      ),
    );
    await ledger.as('admin').query(`alter table edict.log_head disable trigger only_forward;
      update edict.log_head set size = 65536 where log_id = 1;
      alter table edict.log_head enable always trigger only_forward`);
  });
  afterAll(() => ledger.close());

  it('does nothing without a period, and nothing to what is younger', async () => {
    await expect(newRetention(null).begin('op')).rejects.toMatchObject({ code: 'state_conflict' });
    const [young] = await newRetention(200, () => 1_700_000_000_000_000n + 86_400_000_000n).begin('op');
    expect(young).toMatchObject({ tenant: 'acme', logs: [{ segments: 1, due: 0, named: 0, dropped: 0 }] });
  });

  it('names what is older in an entry, and drops nothing before a checkpoint covers it', async () => {
    const retention = newRetention();
    const [begun] = await retention.begin('op');
    expect(begun).toMatchObject({
      logs: [{ log: ledger.log.origin, segments: 1, due: 1, named: 1, dropped: 0 }],
      waitsFor: 'a checkpoint that covers entry 65536; the newest covers 0 entries',
    });
    expect(await retention.advance()).toBe(0);
    await expect(drop(0, 65_536)).rejects.toMatchObject({ details: { sqlstate: '55000' } });
    // Asked again it names nothing twice.
    await retention.begin('op');
    expect(await count('edict.retention')).toBe(1);
  });

  it('is refused by the database where it would be wrong or too early', async () => {
    const { log, folder } = ledger;
    const key = signingKeyFromPem(readFileSync(path.join(folder, 'acme-1.pem'), 'utf8'));
    const root = Buffer.alloc(32, 1);
    const verifier = parseVkey(formatVkey(log.origin, key.publicKey));
    const note = signCheckpoint({ origin: log.origin, size: 65_537n, root }, key, verifier);
    await ledger
      .as('signer')
      .query(
        'insert into edict.checkpoint (log_id, size, root, note, signed_us) values (1, 65537, $1::bytea, $2::bytea, 0)',
        [root, Buffer.from(note)],
      );
    const refused = (sqlstate: string) => ({ details: { sqlstate } });
    // Not named; not by a retention entry; younger than the floor.
    await expect(drop(1, 65_536)).rejects.toMatchObject(refused('22023'));
    await expect(drop(0, 3)).rejects.toMatchObject(refused('22023'));
    await ledger.as('admin').query('update edict.retention_floor set days = 3650');
    await expect(drop(0, 65_536)).rejects.toMatchObject(refused('55000'));
    expect(await newRetention().advance()).toBe(0);
    await ledger.as('admin').query('update edict.retention_floor set days = 183');
    expect(await count('edict.payload where log_id = 1 and segment = 0')).toBe(6);
  });

  it('drops payloads, search rows and keys of the segment; headers stay; a crash in between is mended', async () => {
    const entries = await count('edict.entry where log_id = 1');
    // The key store does not answer at first, when the payloads have gone already.
    let failures = 1;
    const retention = newRetention(200, YEARS_LATER, {
      ...ledger.keys,
      destroySegment: (...of) =>
        (failures -= 1) >= 0 ? Promise.reject(new Error('no answer')) : ledger.keys.destroySegment(...of),
    });
    expect(await retention.advance()).toBe(0);
    expect(await count('edict_keys.payload_key where seq < 65536')).toBeGreaterThan(0);
    expect(await retention.advance()).toBe(0);
    expect(failures).toBe(-1);
    expect((await retention.state())[0]).toMatchObject({ logs: [{ named: 1, dropped: 1 }], waitsFor: null });
    expect(await count('edict.payload where log_id = 1 and segment = 0')).toBe(0);
    expect(await count(`pg_class where relname = 'payload_l1_s0'`)).toBe(0);
    expect(await count('edict.decision where log_id = 1 and seq < 65536')).toBe(0);
    expect(await count('edict.entry where log_id = 1')).toBe(entries);
    expect(await count('edict_keys.payload_key where seq < 65536')).toBe(0);
    expect(await drop(0, 65_536)).toEqual([{ drop_payload_segment: false }]);
    // Killed after the drop: the keys are still there.
    await ledger.keys.issue(ledger.log, [
      { seq: 3n, eventId: '0197d2a0-0000-7000-8000-000000000000', subject: { issuer: '', type: 'user', id: 'alice' } },
    ]);
    await newRetention().advance();
    expect(await count('edict_keys.payload_key where seq < 65536')).toBe(0);
  });
});
