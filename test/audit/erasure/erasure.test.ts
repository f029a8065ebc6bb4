/** Erasures on a real Postgres, with a real signer. acme is log 2: alice's decisions are entries 1, 2 and 9. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { DataSubject, Sql } from '../../../services/audit/core/append.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import type { Erasures, ErasureStatus } from '../../../services/audit/core/erasure.ts';
import { freshIds, ownEntry } from '../../../services/audit/core/own-entry.ts';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import type { VerificationReport } from '../../../services/audit/core/verify-report.ts';
import { createEraser, type Eraser } from '../../../services/audit/erasure/eraser.ts';
import { createErasures } from '../../../services/audit/erasure/requests.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import {
  createFeeder,
  decisionMembers,
  LEDGER_TEMPLATE,
  ledgerKeys,
  openLedger,
  searchNames,
  signLedgers,
} from '../http/ledger-fixture.ts';
import { silent } from '../ingest/fixtures.ts';

const ACME = { id: 2, tenant: 'acme', origin: 'audit.example.com/acme/0/1' };
const ALICE: DataSubject = { issuer: '', type: 'user', id: 'alice' };
const [ann, ben] = ['ann', 'ben'].map((name) => ({ name, isAuthenticated: true }));
const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
const REFERENCE = { reference: 'ticket 7', legalBasis: 'GDPR, article 17(1)(b)', copies: ['SIEM'] };

let test: TestDatabase;
let database: Database;
let keys: PayloadKeys;
let erasures: Erasures;
let memory: string;

const newEraser = (of: Database = database, with_: PayloadKeys = keys): Eraser =>
  createEraser({
    database: of,
    keys: with_,
    writeLedger: openLedger(of).write,
    nameForSearch: searchNames,
    nowUs,
    logger: silent,
  });
const newErasures = (clock: () => bigint = nowUs) =>
  createErasures({ database, keys, nowUs: clock, expiryMs: 3_600_000, copies: ['backups: 30 days'] });

beforeEach(async () => {
  test = await createTestDatabase(LEDGER_TEMPLATE);
  database = connectPostgres(test.adminUrl, { poolSize: 4 });
  ({ keys } = openLedger(database));
  erasures = newErasures();
  memory = mkdtempSync(path.join(os.tmpdir(), 'edict-memory-'));
});
afterEach(async () => {
  await database.close();
  await test.close();
  rmSync(memory, { recursive: true });
});

const approved = async (subject: DataSubject = ALICE): Promise<ErasureStatus> => {
  const { id } = await erasures.request('acme', ann!, { scope: { subject }, ...REFERENCE });
  await erasures.approve('acme', id, ann!);
  return erasures.approve('acme', id, ben!);
};

const erased = async (subject?: DataSubject): Promise<ErasureStatus> => {
  const { id } = await approved(subject);
  const eraser = newEraser();
  await eraser.advance();
  await signLedgers(database, memory);
  expect(await eraser.advance()).toBe(1);
  return erasures.get('acme', id);
};

const verify = async (): Promise<readonly VerificationReport[]> =>
  createVerifier({
    database,
    reports: database,
    keys,
    nameForSearch: searchNames,
    graceMs: 60_000,
    placeKey: Buffer.alloc(32, 1),
  })('acme', {});

const redOf = (report: VerificationReport | undefined): readonly string[] =>
  Object.entries(report?.verdicts ?? {}).flatMap(([name, { status }]) => (status === 'failed' ? [name] : []));

const count = async (sql: string): Promise<number> =>
  Number((await database.query<{ n: bigint }>(`select count(*) as n from ${sql}`, []))[0]?.n);

const feed = async (seedBoot: number, ...people: readonly string[]): Promise<bigint> => {
  const feeder = createFeeder(openLedger(database).write, ACME);
  // A later life of the emitter: the fixture's own has taken these numbers.
  const entries = people.map((name) => feeder.decision(decisionMembers(name, 'read', 'allow')));
  return openLedger(database).write(({ append }) =>
    append(
      ACME,
      entries.map((entry) => ({ ...entry, boot: BigInt(seedBoot) })),
    ),
  );
};

/** Whatever entry it is, with the id of an event that never was. */
const searchRowOfAlice = (seq: number): Promise<unknown> =>
  database.query(`insert into edict.decision (log_id, seq, event_id, event_time_ms, ingest_us, decision, reasons,
      subject, action, resource_type, resource, caller)
    values (2, ${seq}, '0197d2a0-0000-7000-8000-000000000000', 0, 0, 'allow', '{}',
      '\\x${searchNames('acme', ALICE).toString('hex')}', 'read', 'dataset', 'x', 'gw-1')`);

describe('an erasure', () => {
  it('needs two different callers, and waits for a checkpoint before a key goes', async () => {
    const { id, state, waitsFor } = await erasures.request('acme', ann!, { scope: { subject: ALICE }, ...REFERENCE });
    expect([state, waitsFor]).toEqual(['pending', '2 approvals']);
    const eraser = newEraser();
    await erasures.approve('acme', id, ann!);
    await expect(erasures.approve('acme', id, ann!)).rejects.toMatchObject({ code: 'state_conflict' });
    expect(await eraser.advance()).toBe(0);
    expect((await erasures.approve('acme', id, ben!)).state).toBe('approved');
    await expect(erasures.withdraw('acme', id)).rejects.toMatchObject({ code: 'state_conflict' });

    expect(await eraser.advance()).toBe(0);
    const entered = await erasures.get('acme', id);
    expect(entered).toMatchObject({ state: 'entered', firstSeq: 10n, lastSeq: 10n, erased: 3n });
    expect(entered.waitsFor).toContain('a checkpoint that covers entry 10');
    expect(await eraser.advance()).toBe(0);
    expect(await count('edict_keys.payload_key where log_id = 2 and seq in (1, 2, 9)')).toBe(3);
    expect(redOf((await verify())[0])).toEqual([]);

    await signLedgers(database, memory);
    expect(await eraser.advance()).toBe(1);
    expect(await erasures.get('acme', id)).toMatchObject({ state: 'done', subject: null, waitsFor: null });
    expect(await count('edict_keys.payload_key where log_id = 2 and seq in (1, 2, 9)')).toBe(0);
    expect(await count('edict.decision where log_id = 2')).toBe(5);
    const [report] = await verify();
    expect(report?.findings).toEqual([]);
    expect(report?.verdicts.lifecycle).toMatchObject({ status: 'ok', checked: { payloads_gone: 3 } });
    // A signer that lost its memory reads everything anew, and signs what goes on from it.
    await feed(7, 'zoe');
    await signLedgers(database, mkdtempSync(path.join(memory, 'fresh-')));
    expect(await count('edict.signer_alarm')).toBe(0);
  });

  it('is an entry that says who, why, what, and which copies there are', async () => {
    const { firstSeq, request } = await erased();
    const [row] = await database.query<{ header: Buffer; ciphertext: Buffer }>(
      `select e.header, p.ciphertext from edict.entry e join edict.payload p using (log_id, segment, seq)
       where e.log_id = 2 and e.seq = $1::bigint`,
      [String(firstSeq)],
    );
    const { openPayloads } = await import('../../../services/audit/core/query-reader.ts');
    const [payload] = await openPayloads(keys, ACME, [{ seq: firstSeq ?? 0n, ...row! }]);
    const text = payload?.state === 'opened' ? Buffer.from(payload.payload).toString() : '';
    expect(JSON.parse(text)).toMatchObject({
      reason: 'request',
      request,
      legal_basis: REFERENCE.legalBasis,
      approvers: ['ann', 'ben'],
      authenticated: true,
      scope: 'subject',
      ranges: [
        ['1', '2'],
        ['9', '9'],
      ],
      copies: ['backups: 30 days', 'SIEM'],
    });
    expect(text).not.toContain('alice');
    expect(text).not.toContain('ticket');
  });

  it('holds for what comes later: it is stored without payload, and named in its transaction', async () => {
    await erased();
    const seq = await feed(7, 'alice', 'bob');
    expect(await count(`edict.payload where log_id = 2 and seq in (${seq}, ${seq + 1n})`)).toBe(1);
    expect(await count(`edict.decision where log_id = 2 and seq >= ${seq}`)).toBe(1);
    const [before] = await verify();
    expect(before?.verdicts.lifecycle).toMatchObject({ status: 'not_checked', checked: { payloads_gone: 4 } });
    await signLedgers(database, memory);
    expect((await verify())[0]?.verdicts.lifecycle.status).toBe('ok');
  });

  it('also of single entries, that no later incarnation stores again', async () => {
    const [bob] = await database.query<{ event_id: string }>(
      'select event_id from edict.received where log_id = 2 and seq = 3',
      [],
    );
    const eventId = bob?.event_id ?? '';
    const scope = { decisions: [eventId], seqs: [8n] };
    await expect(
      erasures.request('acme', ann!, { scope: { decisions: [], seqs: [0n] }, ...REFERENCE }),
    ).rejects.toMatchObject({ code: 'request_invalid' });
    const { id } = await erasures.request('acme', ann!, { scope, ...REFERENCE });
    await erasures.approve('acme', id, ann!);
    await erasures.approve('acme', id, ben!);
    await newEraser().advance();
    await signLedgers(database, memory);
    expect(await newEraser().advance()).toBe(1);
    const [report] = await verify();
    expect([redOf(report), report?.verdicts.lifecycle.checked['payloads_gone']]).toEqual([[], 2]);
    const again = { seq: 77n, eventId, subject: { issuer: '', type: 'user', id: 'bob' } };
    expect(await keys.issue({ ...ACME, origin: 'audit.example.com/acme/0/2' }, [again])).toEqual([undefined]);
  });

  it('reaches the logs of earlier incarnations, which the newest one speaks for', async () => {
    await signLedgers(database, memory);
    const folder = mkdtempSync(path.join(memory, 'keys-'));
    const { log } = await createLedger({
      write: openLedger(database).write,
      tenant: 'acme',
      authority: 'audit.example.com',
      keyFile: (name, incarnation) => path.join(folder, `${name}-${incarnation}.pem`),
      nowUs,
      newIncarnation: true,
    });
    const first = ledgerKeys.get('acme');
    const { readFileSync } = await import('node:fs');
    ledgerKeys.set('acme', readFileSync(path.join(folder, 'acme-2.pem'), 'utf8'));
    try {
      const done = await erased();
      expect(done).toMatchObject({ state: 'done', log: log.origin, erased: 3n });
    } finally {
      ledgerKeys.set('acme', first ?? '');
    }
    expect(await count('edict.decision where log_id = 2')).toBe(5);
    const reports = await verify();
    expect(reports.map(({ origin, findings }) => [origin, findings])).toEqual([
      [log.origin, []],
      [ACME.origin, []],
    ]);
    expect(reports[1]?.verdicts.lifecycle).toMatchObject({ status: 'ok', checked: { payloads_gone: 3 } });
  });

  it('is repeated in a key store that was restored from a copy', async () => {
    const { id } = await approved();
    const eraser = newEraser();
    await eraser.advance();
    await signLedgers(database, memory);
    await database.query(`create table public.copy as select * from edict_keys.subject_key;
      create table public.payload_copy as select * from edict_keys.payload_key`);
    await eraser.advance();
    await database.query(`update edict_keys.subject_key s set wrapped = c.wrapped, closed = false from public.copy c
        where c.id = s.id;
      insert into edict_keys.payload_key select * from public.payload_copy on conflict do nothing`);
    expect((await erasures.get('acme', id)).state).toBe('done');
    expect(await newEraser().repeat()).toBe(1);
    const { keys: fresh } = openLedger(database);
    const subject = { seq: 900n, eventId: '0197d2a0-0000-7000-8000-000000000000', subject: ALICE };
    expect(await fresh.issue(ACME, [subject])).toEqual([undefined]);
    expect(await count(`edict_keys.subject_key where wrapped is null`)).toBe(1);
  });

  it('is closed again, where it still waits for a checkpoint; and keys of dropped segments go again', async () => {
    const { id } = await approved();
    await newEraser().advance();
    expect((await erasures.get('acme', id)).state).toBe('entered');
    await database.query(`update edict_keys.subject_key set closed = false;
      insert into edict.dropped_segment (log_id, segment, retention_seq, retention_log) values (2, 3, 1, 2)`);
    const eventId = '0197d2a0-0000-7000-8000-000000000000';
    const later = { seq: 3n << 16n, eventId, subject: { issuer: '', type: 'user', id: 'bob' } };
    await keys.issue(ACME, [later]);
    expect(await newEraser().repeat()).toBe(1);
    const { keys: fresh } = openLedger(database);
    expect(await fresh.issue(ACME, [{ seq: 900n, eventId, subject: ALICE }])).toEqual([undefined]);
    expect(await count('edict_keys.payload_key where log_id = 2 and seq in (1, 2, 9)')).toBe(3);
    expect(await fresh.find(ACME, [later])).toEqual([[]]);
  });

  it('is repeated where the copy of the key store is from before the erasure entry, but never for a forged row', async () => {
    const { firstSeq } = await erased();
    await database.query(
      `with entry as (delete from edict_keys.payload_key where log_id = 2 and seq = $1::bigint)
       update edict_keys.subject_key set wrapped = (select wrapped from edict_keys.subject_key
         where wrapped is not null limit 1), closed = false where wrapped is null`,
      [String(firstSeq)],
    );
    const bob = keys.nameOf('acme', { issuer: '', type: 'user', id: 'bob' });
    await database.query(
      `insert into edict.erasure (id, tenant, state, request, legal_basis, key, requested_by, requested_us, expires_us,
                                  approvals, log_id, first_seq, last_seq, erased)
       values ('0197d2a0-0000-7000-8000-000000000001', 'acme', 'done', sha256(''), 'x', $1::bytea, 'x', 0, 0,
               '[{"by":"ann","us":"1"},{"by":"ben","us":"2"}]', 2, 0, 0, 0)`,
      [bob],
    );
    expect(await newEraser().repeat()).toBe(1);
    expect(await count('edict_keys.subject_key where wrapped is null')).toBe(1);
    expect(await count(`edict_keys.subject_key where wrapped is null and name = '\\x${bob.toString('hex')}'`)).toBe(0);
  });

  it('names again what a restored database has of somebody whose keys are gone', async () => {
    await erased();
    // The database from before: its entries and search rows are back, the key store is not.
    await searchRowOfAlice(1);
    const again = await erased();
    expect(again.erased).toBe(1n);
    expect(await count('edict.decision where log_id = 2 and seq = 1')).toBe(0);
  });

  it('names nobody else, whatever a search row says', async () => {
    await erased();
    // Rows of the erased person at entries of the ledger and of bob.
    await database.query(`delete from edict.decision where log_id = 2 and seq = 3`);
    for (const seq of [0, 3]) await searchRowOfAlice(seq);
    const again = await erased();
    expect(again.erased).toBe(0n);
    expect(await count('edict_keys.payload_key where log_id = 2 and seq in (0, 3)')).toBe(2);
  });

  it('expires, can be withdrawn, and keeps no name then', async () => {
    const scope = { subject: ALICE };
    const first = await erasures.request('acme', ann!, { scope, ...REFERENCE });
    expect(await erasures.withdraw('acme', first.id)).toMatchObject({ state: 'withdrawn', subject: null });
    await expect(erasures.approve('acme', first.id, ben!)).rejects.toMatchObject({ code: 'state_conflict' });
    const second = await erasures.request('acme', ann!, { scope, ...REFERENCE });
    const later = newErasures(() => nowUs() + 3_600_000_000n);
    await expect(later.approve('acme', second.id, ben!)).rejects.toMatchObject({ code: 'state_conflict' });
    await later.expire();
    expect(await erasures.get('acme', second.id)).toMatchObject({ state: 'expired', subject: null });
    await expect(erasures.get('globex', second.id)).rejects.toMatchObject({ code: 'not_found' });
    expect(await erasures.list('acme')).toHaveLength(2);
  });
});

describe('a request whose row the writer wrote itself', () => {
  const hands = (): Promise<unknown> =>
    database.query('alter table edict.erasure drop constraint if exists erasure_approved');
  const keyed = (): Promise<number> => count('edict_keys.payload_key where log_id = 2 and seq in (1, 2, 9)');
  const two = '[{"by":"ann","us":"1"},{"by":"ben","us":"2"}]';

  it.each([
    ['nobody', '[]'],
    ['one', '[{"by":"ann","us":"1"}]'],
    ['the same one twice', '[{"by":"ann","us":"1"},{"by":"ann","us":"2"}]'],
    ['nameless ones', '[{},{}]'],
  ])('is refused by the database, and not carried out, where %s approved it', async (_name, approvals) => {
    const { id } = await erasures.request('acme', ann!, { scope: { subject: ALICE }, ...REFERENCE });
    const forge = (): Promise<unknown> =>
      database.query(`update edict.erasure set state = 'approved', approvals = $2::text::jsonb where id = $1::uuid`, [
        id,
        approvals,
      ]);
    await expect(forge()).rejects.toMatchObject({ details: { sqlstate: '23514' } });
    await hands();
    await forge();
    expect(await newEraser().advance()).toBe(0);
    expect((await erasures.get('acme', id)).state).toBe('approved');
    expect(await keyed()).toBe(3);
  });

  it('destroys nothing unless it stands at its own erasure entry', async () => {
    const { firstSeq } = await erased({ issuer: '', type: 'user', id: 'bob' });
    const { id } = await erasures.request('acme', ann!, { scope: { subject: ALICE }, ...REFERENCE });
    for (const range of ['0, 0', `${firstSeq}, ${firstSeq}`, '1, 0']) {
      await database.query(
        `update edict.erasure set state = 'entered', approvals = $2::text::jsonb, log_id = 2, erased = 0,
                (first_seq, last_seq) = (${range}) where id = $1::uuid`,
        [id, two],
      );
      expect(await newEraser().advance()).toBe(0);
      expect((await erasures.get('acme', id)).state).toBe('entered');
      expect(await keyed()).toBe(3);
    }
  });
});

describe('an erasure that is cut off at any statement', () => {
  /** The database and key store of a process that dies before its n-th step. */
  const mortal = (steps: number): { readonly database: Database; readonly keys: PayloadKeys } => {
    let left = steps;
    const step = (): void => {
      left -= 1;
      if (left < 0) throw new Error('killed');
    };
    const dying =
      <Of extends readonly unknown[]>(work: (...of: Of) => Promise<void>) =>
      (...of: Of): Promise<void> => {
        step();
        return work(...of);
      };
    const query: Sql['query'] = (...statement) => {
      step();
      return database.query(...statement);
    };
    return {
      database: {
        ...database,
        query,
        transaction: async (work) => {
          step();
          return database.transaction((sql) =>
            work({
              query: (...statement) => {
                step();
                return sql.query(...statement);
              },
            }),
          );
        },
      },
      keys: {
        ...keys,
        closeSubject: dying(keys.closeSubject),
        destroySubject: dying(keys.destroySubject),
        destroyEntries: dying(keys.destroyEntries),
      },
    };
  };

  it('goes on where it was, names nobody twice, and destroys nothing too early', async () => {
    const { id } = await approved();
    for (let steps = 0; ; steps += 1) {
      const process = mortal(steps);
      await newEraser(process.database, process.keys)
        .advance()
        .catch(() => undefined);
      expect(redOf((await verify())[0])).toEqual([]);
      const { state } = await erasures.get('acme', id);
      if (state === 'entered') break;
      expect(state).toBe('approved');
    }
    expect(await count('edict.entry where log_id = 2 and get_byte(header, 1) = 5')).toBe(1);
    await signLedgers(database, memory);
    let last: string | undefined;
    for (let steps = 0; last !== 'done'; steps += 1) {
      const process = mortal(steps);
      await newEraser(process.database, process.keys)
        .advance()
        .catch(() => undefined);
      expect(redOf((await verify())[0])).toEqual([]);
      last = (await erasures.get('acme', id)).state;
    }
    expect((await verify())[0]?.verdicts.lifecycle).toMatchObject({ status: 'ok', checked: { payloads_gone: 3 } });
  });
});

describe('an illegal erasure dressed as a lawful one: red is lifecycle', () => {
  const entry = async (members: Readonly<Record<string, unknown>>): Promise<void> => {
    await openLedger(database).write(({ append }) =>
      append(ACME, [ownEntry('acme', 'erasure', { tenant: 'acme', ...members }, freshIds())]),
    );
  };
  const remove = (seq: number): Promise<unknown> =>
    database.query(`alter table edict.payload_l2_s0 disable trigger all;
      delete from edict.payload where log_id = 2 and seq = ${seq}; delete from edict.decision where log_id = 2 and seq = ${seq}`);
  const lawful = {
    reason: 'request',
    request: 'ab'.repeat(32),
    legal_basis: 'GDPR',
    approvers: ['ann', 'ben'],
    ranges: [['3', '3']],
  };

  it.each([
    ['one approver', { ...lawful, approvers: ['ann'] }],
    ['the same approver twice', { ...lawful, approvers: ['ann', 'ann'] }],
    ['no request', { ...lawful, request: undefined }],
    ['a claim that the person had been erased before', { reason: 'subject_erased_before', ranges: [['3', '3']] }],
  ])('an entry with %s, checkpointed', async (_name, document) => {
    await signLedgers(database, memory);
    await entry(JSON.parse(JSON.stringify(document)) as typeof lawful);
    await signLedgers(database, memory);
    await remove(3);
    expect(redOf((await verify())[0])).toEqual(['lifecycle']);
  });

  it('a lawful entry, and the payload gone before a checkpoint covers it; then the signer refuses too', async () => {
    await entry(lawful);
    await remove(3);
    expect(redOf((await verify())[0])).toEqual(['lifecycle']);
    await signLedgers(database, memory);
    expect(await count(`edict.signer_alarm where log_id = 2 and alarm = 'row_damaged'`)).toBe(1);
  });

  it('a lawful entry, and more gone than it names', async () => {
    await entry(lawful);
    await signLedgers(database, memory);
    await remove(3);
    await remove(4);
    const [report] = await verify();
    expect(redOf(report)).toEqual(['lifecycle']);
    expect(report?.verdicts.lifecycle.firstBad).toMatchObject({ seq: '4', attack: 'payload_removed' });
  });

  it('search rows go only behind a covered erasure entry', async () => {
    await entry(lawful);
    const clean = (ranges: string, seq: number): Promise<unknown> =>
      database.query(`select edict.clean_search(2, '${ranges}', 2, ${seq})`);
    await expect(clean('[["3","3"]]', 10)).rejects.toMatchObject({ details: { sqlstate: '55000' } });
    await signLedgers(database, memory);
    await expect(clean('[["3","3"]]', 9)).rejects.toMatchObject({ details: { sqlstate: '22023' } });
    await expect(clean('[["3","10"]]', 10)).rejects.toMatchObject({ details: { sqlstate: '22023' } });
    await clean('[["3","3"]]', 10);
    expect(await count('edict.decision where log_id = 2')).toBe(7);
  });
});
