import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { createEraser } from '../../services/audit/erasure/eraser.ts';
import { createErasures } from '../../services/audit/erasure/requests.ts';
import { openPayloads } from '../../services/audit/core/query-reader.ts';
import { freshIds } from '../../services/audit/core/own-entry.ts';
import { parseLsn } from '../../services/audit/core/wal-changes.ts';
import { readNewestLogs } from '../../services/audit/ingest/statements.ts';
import { enterTripwireAlarms } from '../../services/audit/ingest/tripwire-alerts.ts';
import { PUBLICATIONS } from '../../services/audit/postgres/tripwire-slot.ts';
import { serveChanges, type RunningTripwire } from '../../services/audit/tripwire-main.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../../services/shared/contracts/signatures.ts';
import { signCheckpoint } from '../../services/shared/tlog/checkpoint.ts';
import { loadSettings, type Settings } from '../../services/shared/settings/settings.ts';
import { freePorts } from '../support/free-ports.ts';
import { startPostgres, type PostgresServer } from '../support/postgres.ts';
import { nameForSearch, newDecision, openLedgerFixture, type LedgerFixture } from './postgres/ledger-fixture.ts';

interface Alarm {
  readonly relation: string;
  readonly operation: string;
  readonly rows: bigint;
  readonly keys: readonly string[];
}

describe('the tripwire', () => {
  let server: PostgresServer;
  let ledger: LedgerFixture;
  let port: number | undefined;
  let running: RunningTripwire | undefined;
  const lines: string[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });

  const settingsWith = (tripwire: Readonly<Record<string, unknown>> = {}): Settings => {
    const urlFile = path.join(ledger.folder, 'tripwire.url');
    writeFileSync(urlFile, ledger.url('tripwire'));
    const file = path.join(ledger.folder, 'edict.json');
    writeFileSync(
      file,
      JSON.stringify({
        home: path.join(ledger.folder, 'home'),
        database: { tripwire_url_file: urlFile },
        tripwire: { listen: `127.0.0.1:${port}`, ...tripwire },
      }),
    );
    return loadSettings({ file, environment: {}, services: ['tripwire'] }).settings;
  };

  const start = async (): Promise<void> => {
    running = await serveChanges(settingsWith(), { logger });
    await until(ready, ({ checks }) => checks['stream']?.ok === true);
  };
  const stop = async (): Promise<void> => {
    await running?.close();
    running = undefined;
  };

  const ready = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/health/ready`);
    const body = (await response.json()) as {
      readonly failing?: readonly string[];
      readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly reason?: string }>>;
    };
    return { ...body, status: response.status };
  };
  const metrics = async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();

  const until = async <T>(what: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> => {
    for (const deadline = Date.now() + 30_000; ;) {
      const value = await what();
      if (isDone(value)) return value;
      if (Date.now() > deadline)
        throw new Error(
          `did not happen: ${JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}`,
        );
      await sleep(50);
    }
  };

  const alarms = (): Promise<readonly Alarm[]> =>
    ledger
      .as('admin')
      .query<Alarm>(
        'select relation, operation, rows, keys from edict.tripwire_alarm order by raised_us, lsn, relation, operation',
        [],
      );

  /** What came in beside what was there. */
  const newAlarms = async (before: readonly Alarm[], count: number): Promise<readonly Alarm[]> =>
    (await until(alarms, ({ length }) => length >= before.length + count)).slice(before.length);

  /** As the programs do it, with a checkpoint of the log's own key. */
  const erase = async (seq: bigint): Promise<void> => {
    const database = ledger.as('writer');
    const { keys, log, folder } = ledger;
    const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
    const erasures = createErasures({ database, keys, nowUs, expiryMs: 60_000, copies: [] });
    const eraser = createEraser({ database, keys, writeLedger: ledger.write, nameForSearch, nowUs, logger });
    const [ann, ben] = ['ann', 'ben'].map((name) => ({ name, isAuthenticated: true }));
    const scope = { decisions: [], seqs: [seq] };
    const { id } = await erasures.request('acme', ann!, { scope, reference: 't', legalBasis: 'l', copies: [] });
    await erasures.approve('acme', id, ann!);
    await erasures.approve('acme', id, ben!);
    await eraser.advance();
    const size = ((await erasures.get('acme', id)).lastSeq ?? 0n) + 1n;
    const root = Buffer.alloc(32, 1);
    const key = signingKeyFromPem(readFileSync(path.join(folder, 'acme-1.pem'), 'utf8'));
    const verifier = parseVkey(formatVkey(log.origin, key.publicKey));
    await ledger
      .as('signer')
      .query(
        'insert into edict.checkpoint (log_id, size, root, note, signed_us) values (1, $1::bigint, $2::bytea, $3::bytea, 0)',
        [String(size), root, Buffer.from(signCheckpoint({ origin: log.origin, size, root }, key, verifier))],
      );
    expect(await eraser.advance()).toBe(1);
  };

  /** A superuser who passes by every trigger. */
  const tamper = (...statements: readonly string[]): Promise<void> =>
    ledger.as('admin').transaction(async (sql) => {
      for (const table of ['entry_l1_s0', 'payload_l1_s0', 'log', 'log_head'])
        await sql.query(`alter table edict.${table} disable trigger user`);
      for (const statement of statements) await sql.query(statement);
    });

  beforeAll(async () => {
    server = await startPostgres({
      wal_level: 'logical',
      min_wal_size: '32MB',
      max_wal_size: '64MB',
    });
    ledger = await openLedgerFixture(server.adminUrl);
    [port] = await freePorts(1);
    await ledger.createTenant('edict');
    await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision(), newDecision()]));
  }, 90_000);
  afterAll(async () => {
    await stop();
    await ledger.close();
    await server.close();
  });

  it('watches every table of the ledger, but for those that are named', async () => {
    const rows = await ledger.as('admin').query<{ relname: string; published: readonly string[] }>(
      `select c.relname::text as relname,
              array(select p.pubname::text from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
                    where r.prrelid = c.oid order by 1) as published
       from pg_class c where c.relnamespace = 'edict'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
       order by 1`,
      [],
    );
    const by = (publication: string | undefined) =>
      rows
        .filter(({ published }) => published.length === (publication === undefined ? 0 : 1))
        .filter(({ published }) => published[0] === publication)
        .map(({ relname }) => relname);
    expect(by(undefined)).toEqual(['journal_mark', 'reader_tenant']);
    expect(by('edict_no_change')).toEqual(['artifact_part', 'decision']);
    expect(by('edict_no_removal')).toEqual([
      'emitter',
      'erasure',
      'ingest_count',
      'log_head',
      'signer_alarm',
      'source_cursor',
      'stream',
      'tripwire_alarm',
      'verification',
    ]);
    expect(by('edict_append_only').length).toBe(rows.length - 13);
    expect(by('edict_append_only')).toEqual(
      expect.arrayContaining(['entry', 'payload', 'log', 'checkpoint', 'tree_node', 'received', 'migration']),
    );
    expect([...PUBLICATIONS].toSorted()).toEqual([...new Set(rows.flatMap(({ published }) => published))].toSorted());
  });

  it('makes no slot on a server that would keep its log without limit, and says why', async () => {
    const admin = ledger.as('admin');
    await expect(serveChanges(settingsWith(), { logger })).rejects.toMatchObject({
      code: 'settings_invalid',
      message: expect.stringMatching(/max_slot_wal_keep_size is not set/) as string,
    });
    expect(await admin.query('select slot_name from pg_replication_slots', [])).toEqual([]);
    await admin.query("alter system set max_slot_wal_keep_size = '64MB'");
    await admin.query('select pg_reload_conf()');
  });

  it('does not start without its role, nor with a listener that others reach', async () => {
    const { tripwire_url_file: _role, ...database } = settingsWith().database;
    await expect(serveChanges({ ...settingsWith(), database }, { logger })).rejects.toMatchObject({
      code: 'settings_invalid',
      message: expect.stringContaining('/database/tripwire_url_file') as string,
    });
    expect(() => settingsWith({ listen: '0.0.0.0:7183' })).toThrow('/tripwire/listen');
  });

  it('says nothing of what the programs do, and what is rolled back', async () => {
    await start();
    await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision()]));
    await ledger
      .as('admin')
      .query('update edict.entry set seq = seq')
      .catch(() => undefined);
    await erase(4n);
    // The lawful retention of a partition.
    await ledger.as('writer').query('select edict.create_segment(1, 1)');
    await ledger.as('admin').query('drop table edict.payload_l1_s1');
    // Behind all of it: what comes is in the order of the commits.
    await tamper("update edict.log set created_us = created_us where tenant = 'acme'");
    expect(await newAlarms([], 1)).toEqual([{ relation: 'edict.log', operation: 'update', rows: 1n, keys: ['id=1'] }]);
    const { status, failing, checks } = await ready();
    expect({ status, failing }).toEqual({ status: 503, failing: ['changes'] });
    expect(checks['slot']).toMatchObject({ ok: true, facts: { wal_status: 'reserved' } });
  }, 90_000);

  it('sees what a superuser does with the triggers off, row by row, and never a payload', async () => {
    const before = await alarms();
    const cases: readonly (readonly [statement: string, alarm: Alarm])[] = [
      [
        'update edict.payload set ciphertext = set_byte(ciphertext, 20, 7) where log_id = 1 and seq = 1',
        {
          relation: 'edict.payload_l1_s0',
          operation: 'update',
          rows: 1n,
          keys: ['log_id=1 segment=0 seq=1'],
        },
      ],
      [
        'delete from edict.entry where log_id = 1 and seq in (2, 3)',
        {
          relation: 'edict.entry_l1_s0',
          operation: 'delete',
          rows: 2n,
          keys: ['log_id=1 segment=0 seq=2', 'log_id=1 segment=0 seq=3'],
        },
      ],
      ['truncate edict.payload_l1_s0', { relation: 'edict.payload_l1_s0', operation: 'truncate', rows: 0n, keys: [] }],
      [
        "update edict.decision set decision = 'allow' where log_id = 1 and seq = 1",
        { relation: 'edict.decision', operation: 'update', rows: 1n, keys: ['log_id=1 seq=1'] },
      ],
      [
        'delete from edict.log_head where log_id = 1',
        { relation: 'edict.log_head', operation: 'delete', rows: 1n, keys: ['log_id=1'] },
      ],
      ['truncate edict.received', { relation: 'edict.received', operation: 'truncate', rows: 0n, keys: [] }],
    ];
    for (const [statement] of cases) await tamper(statement);
    expect(await newAlarms(before, cases.length)).toEqual(cases.map(([, alarm]) => alarm));
    const said = lines.map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
    const last = said.findLast(({ relation }) => relation === 'edict.entry_l1_s0');
    expect(last).toMatchObject({
      level: 50,
      operation: 'delete',
      rows: '2',
      xid: expect.stringMatching(/^\d+$/) as string,
    });
    expect(parseLsn(String(last?.['lsn']))).toBeGreaterThan(0n);
    expect(await metrics()).toMatch(/edict_tripwire_alarms_total\{[^}]*operation="truncate"[^}]*\} 2/);
    // Not one byte of what was changed.
    const rows = await ledger
      .as('admin')
      .query<{ row: string }>('select t::text as row from edict.tripwire_alarm t', []);
    expect(rows.map(({ row }) => row).filter((row) => row.includes('\\x'))).toEqual([]);
  }, 90_000);

  it('a change of very many rows is one alarm', async () => {
    const before = await alarms();
    await tamper(
      `insert into edict.unknown_tenant_event select repeat('a', 32), 1, 'x', n, 0 from generate_series(1, 20000) n`,
      'delete from edict.unknown_tenant_event',
    );
    const [alarm] = await newAlarms(before, 1);
    expect(alarm).toMatchObject({ relation: 'edict.unknown_tenant_event', operation: 'delete', rows: 20_000n });
    expect(alarm?.keys).toHaveLength(10);
  }, 90_000);

  it('makes each of them one alert entry of the system ledger', async () => {
    const writer = ledger.as('writer');
    const enter = () =>
      enterTripwireAlarms({
        database: writer,
        writeLedger: ledger.write,
        logs: () => readNewestLogs(writer),
        ids: freshIds(),
      });
    const count = (await alarms()).length;
    expect(await enter()).toBe(count);
    expect(await enter()).toBe(0);
    const rows = await ledger.as('admin').query<{ header: Buffer; seq: bigint; ciphertext: Buffer | null }>(
      `select e.seq, e.header, p.ciphertext from edict.entry e join edict.log l on l.id = e.log_id
         left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
         where l.tenant = 'edict' and get_byte(e.header, 1) = 12 order by e.seq`,
      [],
    );
    expect(rows).toHaveLength(count);
    const stored = await ledger
      .as('admin')
      .query<{ seq: bigint }>('select seq from edict.tripwire_alarm order by seq', []);
    expect(stored).toEqual(rows.map(({ seq }) => ({ seq })));
    const [payload] = await openPayloads(ledger.keys, { tenant: 'edict', origin: 'test.example/edict/0/1' }, rows);
    if (payload?.state !== 'opened') throw new Error('the alert entry has no payload');
    const {
      nonce,
      lsn,
      xid,
      committed_us: committedUs,
      ...said
    } = JSON.parse(Buffer.from(payload.payload).toString()) as Readonly<Record<string, string>>;
    expect(said).toEqual({
      alert: 'database_changed',
      relation: 'edict.log',
      operation: 'update',
      rows: '1',
      keys: ['id=1'],
    });
    expect(nonce).toMatch(/^[0-9a-f]{32}$/);
    expect(parseLsn(lsn ?? '')).toBeGreaterThan(0n);
    expect(xid).toMatch(/^\d+$/);
    expect(Number(committedUs) / 1_000).toBeLessThan(Date.now());
  }, 90_000);

  it('goes on where it was after a restart, and tells nothing twice', async () => {
    await stop();
    const before = await alarms();
    await tamper("update edict.log set created_us = created_us where tenant = 'edict'");
    await start();
    expect(await newAlarms(before, 1)).toEqual([
      { relation: 'edict.log', operation: 'update', rows: 1n, keys: ['id=2'] },
    ]);
    // What was looked into before is no longer red: one alarm since the start.
    expect(await metrics()).toMatch(/edict_tripwire_alarms_total\{[^}]*operation="update"[^}]*\} 1\n/);
    await stop();
    await start();
    await until(ready, ({ status }) => status === 200);
    expect(await alarms()).toHaveLength(before.length + 1);
  }, 90_000);

  it('comes back by itself when the server does', async () => {
    await server.restart();
    await until(ready, ({ status }) => status === 200);
    const before = await alarms();
    await tamper("update edict.log set created_us = created_us where tenant = 'edict'");
    expect(await newAlarms(before, 1)).toMatchObject([{ operation: 'update' }]);
    await stop();
  }, 90_000);

  it('a slot that is gone, was moved, or was lost to the cap is an alarm, and watching goes on', async () => {
    const interruption = async (before: readonly Alarm[]) =>
      (await newAlarms(before, 1)).map(({ operation, keys }) => [operation, ...keys]);
    const admin = ledger.as('admin');

    let before = await alarms();
    await tamper("update edict.log set created_us = created_us where tenant = 'edict'");
    const released = () =>
      admin.query<{ active: boolean }>(
        "select active from pg_replication_slots where slot_name = 'edict_tripwire'",
        [],
      );
    await until(released, ([slot]) => slot?.active === false);
    await admin.query("select pg_replication_slot_advance('edict_tripwire', pg_current_wal_lsn())");
    await start();
    expect(await interruption(before)).toEqual([
      ['watch_interrupted', expect.stringMatching(/^somebody moved the slot on to /)],
    ]);
    await stop();

    before = await alarms();
    await until(released, ([slot]) => slot?.active === false);
    await admin.query("select pg_drop_replication_slot('edict_tripwire')");
    await start();
    expect(await interruption(before)).toEqual([['watch_interrupted', 'the slot was gone']]);
    expect(await metrics()).toMatch(/edict_tripwire_interruptions_total\{[^}]*\} 1\n/);
    await stop();

    before = await alarms();
    await until(released, ([slot]) => slot?.active === false);
    await admin.query('create table public.filler (a text)');
    for (let round = 0; round < 7; round += 1) {
      await admin.query(`insert into public.filler select repeat(md5(n::text), 300) from generate_series(1, 1500) n`);
      await admin.query('select pg_switch_wal()');
    }
    await admin.query('checkpoint');
    expect(
      await admin.query("select wal_status from pg_replication_slots where slot_name = 'edict_tripwire'", []),
    ).toEqual([{ wal_status: 'lost' }]);
    await start();
    expect(await interruption(before)).toEqual([
      ['watch_interrupted', 'the slot was lost: more was written than the server may keep'],
    ]);
    await tamper("update edict.log set created_us = created_us where tenant = 'edict'");
    expect((await newAlarms(before, 2))[1]).toMatchObject({ relation: 'edict.log', operation: 'update' });
    await stop();
  }, 120_000);
});
