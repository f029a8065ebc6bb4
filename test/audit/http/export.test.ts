import { createHash } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parquetMetadata, parquetReadObjects } from 'hyparquet';
import { auditAccess, type AuditAccess } from '../../../services/audit/http/access.ts';
import type { WriteLedger } from '../../../services/audit/core/append.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { exportRow } from '../../../services/audit/core/export-row.ts';
import { cefHeader, cefValue, csvCell } from '../../../services/audit/core/export-text.ts';
import type { FoundDecision, LedgerReader } from '../../../services/audit/core/query-reader.ts';
import { createRecordAccess, type RecordAccess } from '../../../services/audit/core/record-access.ts';
import { hasFailed } from '../../../services/audit/core/verify-report.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { encodeParquet } from '../../../services/audit/http/parquet.ts';
import { createLedgerReader, readTenantLogs } from '../../../services/audit/postgres/read-ledger.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { AppError } from '../../../services/shared/contracts/errors.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { createFeeder, decisionMembers, LEDGER_TEMPLATE, openLedger, searchNames } from './ledger-fixture.ts';
import { ocsfFaults } from './ocsf-rules.ts';
import { startAudit, type StartedAudit } from './started-audit.ts';

interface Exported {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly trailers: IncomingMessage['trailers'];
  readonly bytes: Buffer;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const FORMULA = `=cmd|' /C calc'!A0`;
const HOSTILE = 'a|b=c\\d\r\nCEF:0|x|\u2028"\u0000,\u202e\ud83d\ude00';

/** As a decision is shown: Postgres takes no NUL, so the search table has none. */
const SHOWN = HOSTILE.replace('\0', '\ufffd');

describe('an export', () => {
  let test: TestDatabase;
  let database: Database;
  let audit: StartedAudit;
  let access: AuditAccess;
  let write: WriteLedger;
  let ledger: LedgerReader;
  let reader: LedgerReader;
  let record: RecordAccess;
  let recordAccess: RecordAccess;

  beforeAll(async () => {
    test = await createTestDatabase(LEDGER_TEMPLATE);
    database = connectPostgres(test.adminUrl, { poolSize: 4 });
    const opened = openLedger(database);
    write = opened.write;
    ledger = createLedgerReader({ database, keys: opened.keys });
    record = createRecordAccess(write, (tenant) => readTenantLogs(database, tenant));
    audit = await startAudit({
      database,
      keys: opened.keys,
      reports: database,
      reader: {
        ...ledger,
        logs: (tenant) => reader.logs(tenant),
        decisions: (...args) => reader.decisions(...args),
      },
      recordAccess: (...args) => recordAccess(...args),
      access: () => access,
      nameSubject: searchNames,
    });
    // A log of its own for hostile values: the feeder numbers from 1.
    const [log] = await readTenantLogs(database, 'edict');
    if (log === undefined) throw new Error('no log');
    const feeder = createFeeder(write, { ...log, tenant: 'edict' });
    feeder.start();
    await feeder.store([
      feeder.decision(
        decisionMembers(FORMULA, HOSTILE, 'deny', {
          agent: '+1',
          chain: ['@x', HOSTILE],
          resource: HOSTILE,
          reasons: [HOSTILE, '-1'],
          context: { purpose: '\t=1', session: "'quoted", args: { text: 'x'.repeat(880_000), big: 1 } },
        }),
      ),
      feeder.decision(decisionMembers('alice', 'read', 'allow')),
    ]);
  });
  beforeEach(() => {
    const open = auditAccess(loadSettings({ environment: {} }).settings);
    if (open.mode !== 'open') throw new Error('open');
    access = { ...open, tenants: new Set(['acme', 'globex', 'initech', 'edict']) };
    [reader, recordAccess] = [ledger, record];
  });
  afterAll(async () => {
    await audit.close();
    await database.close();
    await test.close();
  });

  const exported = (query: string, headers: Readonly<Record<string, string>> = {}, method = 'GET'): Promise<Exported> =>
    new Promise((resolve, reject) => {
      httpRequest(`${audit.url}/v1/export?${query}`, { headers, method }, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.once('error', reject);
        response.once('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            trailers: response.trailers,
            bytes: Buffer.concat(parts),
          }),
        );
      })
        .once('error', reject)
        .end();
    });

  /** What the access entries of a tenant say, oldest first. */
  const entriesOf = async (tenant: string): Promise<readonly Readonly<Record<string, unknown>>[]> => {
    const rows = await database.query<{ seq: bigint; event_id: string; log_id: number }>(
      `select e.seq, encode(substr(e.header, 19, 16), 'hex') as event_id, e.log_id
       from edict.entry e join edict.log l on l.id = e.log_id
       where l.tenant = $1 and get_byte(e.header, 1) = 7 order by e.seq`,
      [tenant],
    );
    const found: Readonly<Record<string, unknown>>[] = [];
    for (const { seq, event_id: id, log_id: logId } of rows) {
      const eventId = id.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
      // Own entries are no received events; a row lets the reader find them.
      await database.query(
        `insert into edict.received (log_id, event_id, digest, emitter, boot, number, seq)
         values ($1::int, $2::uuid, sha256('x'), repeat('f', 32), 9, $3::bigint, $3::bigint) on conflict do nothing`,
        [logId, eventId, String(seq)],
      );
      const entry = await ledger.event(tenant, eventId);
      if (entry?.payload.state !== 'opened') throw new Error('an access entry cannot be read');
      found.push(JSON.parse(Buffer.from(entry.payload.payload).toString('utf8')) as Record<string, unknown>);
    }
    await database.query(`delete from edict.received where emitter = repeat('f', 32)`);
    return found;
  };

  const lines = ({ bytes }: Exported): readonly string[] => bytes.toString('utf8').trimEnd().split('\n');

  it('gives NDJSON with the event as it was received, and writes who got what, and its digest', async () => {
    const all = await exported('tenant=initech&chain=planner&decision=deny');
    expect(all.status).toBe(200);
    const rows = lines(all).map((line) => JSON.parse(line) as { seq: string; leaf: string; event: { id: string } });
    expect(rows.map(({ seq }) => seq)).toEqual(['2', '3']);
    expect(rows[0]).toMatchObject({ decision: 'deny', leaf: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown });
    expect(rows[0]?.event).toMatchObject({ specversion: '1.0', data: { tenant: 'initech' } });
    expect(all.trailers).toEqual({
      'edict-export-rows': '2',
      'edict-export-sha256': sha256(all.bytes),
      'edict-export-entry': 'audit.example.com/initech/0/1 6',
    });
    expect(all.headers['edict-export-begun']).toBe('audit.example.com/initech/0/1 5');
    const about = { access: 'export', by: 'development', tenant: 'initech', format: 'ndjson' };
    expect(await entriesOf('initech')).toMatchObject([
      {
        ...about,
        state: 'begun',
        filter: { chain: ['planner'], decision: 'deny' },
        as_of: { log: 'audit.example.com/initech/0/1', size: '5' },
      },
      {
        ...about,
        state: 'complete',
        begun: '5',
        rows: '2',
        bytes: String(all.bytes.length),
        sha256: sha256(all.bytes),
      },
    ]);
    const verify = createVerifier({
      database,
      reports: database,
      keys: openLedger(database).keys,
      nameForSearch: searchNames,
      graceMs: 60_000,
      placeKey: Buffer.alloc(32, 1),
    });
    const reports = await verify('initech', { remembered: [], onProgress: () => undefined });
    expect(reports.some(hasFailed)).toBe(false);
  });

  it('writes hostile values as values: no formula, no second line, no second field', async () => {
    const csv = (await exported('tenant=edict&format=csv')).bytes.toString('utf8');
    const cells = [...csv.matchAll(/"((?:[^"]|"")*)"(,|\r\n)/g)].map(([, cell = '']) => cell.replaceAll('""', '"'));
    const [names, first] = [cells.slice(0, 24), cells.slice(24, 48)];
    expect(cells).toHaveLength(3 * 24);
    expect(cells.filter((cell) => /^[=+\-@\t\r\n]/.test(cell))).toEqual([]);
    const cell = (name: string): string => first[names.indexOf(name)] ?? '';
    expect([cell('subject_id'), cell('agent'), cell('purpose'), cell('session')]).toEqual([
      `'${FORMULA}`,
      "'+1",
      "'\t=1",
      "''quoted",
    ]);
    expect(cell('resource_id')).toBe(SHOWN);
    expect(JSON.parse(cell('chain'))).toEqual(['@x', SHOWN]);

    const cef = lines(await exported('tenant=edict&format=cef'));
    expect(cef).toHaveLength(2);
    const [header = '', extension = ''] = cef[0]?.split(/(?<=^(?:[^|]*\|){7})/) ?? [];
    expect(header).toBe('CEF:0|Edict|Edict|1|decision-deny|Decision: denied|5|');
    const keys = [...extension.matchAll(/(?:^| )(\w+)(?<!\\)=/g)].map(([, key]) => key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(extension).toContain('cs3=dataset/a|b\\=c\\\\d\\r\\nCEF:0|x|\\\\u2028"\ufffd,');

    const ndjson = lines(await exported('tenant=edict'));
    expect(ndjson).toHaveLength(2);
    expect(ndjson[0]?.length).toBeGreaterThan(880_000);
    expect(JSON.parse(ndjson[0] ?? '')).toMatchObject({
      action: SHOWN,
      event: { data: { input: { action: { name: HOSTILE } } } },
    });
  });

  it('maps to OCSF 1.8 API Activity as the published schema demands', async () => {
    for (const tenant of ['acme', 'initech', 'edict', 'globex']) {
      const events = lines(await exported(`tenant=${tenant}&format=ocsf`)).map((line) => JSON.parse(line) as unknown);
      expect(events.length).toBeGreaterThan(1);
      expect(events.flatMap(ocsfFaults)).toEqual([]);
    }
    const [event] = lines(await exported('tenant=acme&format=ocsf&subject=bob&action=write'));
    expect(JSON.parse(event ?? '')).toMatchObject({
      class_uid: 6003,
      type_uid: 600_399,
      activity_name: 'write',
      action_id: 2,
      disposition_id: 2,
      actor: { user: { uid: 'bob', type_id: 1 }, app_uid: 'analytics-agent' },
      resources: [{ uid: 'hr.salaries', type: 'dataset' }],
      authorizations: [{ decision: 'deny', policy: { name: 'agent_not_entitled', uid: 'HR-DATA-2' } }],
    });
    expect(ocsfFaults({ ...(JSON.parse(event ?? '') as object), actor: {}, type_uid: 1, extra: 1 })).toHaveLength(3);
  });

  it('gives Parquet that a reader of Parquet reads', async () => {
    const { bytes, trailers } = await exported('tenant=edict&format=parquet');
    const file = Uint8Array.from(bytes).buffer;
    expect(parquetMetadata(file).num_rows).toBe(2n);
    const rows = await parquetReadObjects({ file });
    expect(rows[0]).toMatchObject({
      subject_id: FORMULA,
      resource_id: SHOWN,
      agent: '+1',
      decision: 'deny',
      event_time: new Date('2026-01-01T00:00:02.000Z'),
      seq: 2n,
    });
    expect(rows[1]).toMatchObject({ subject_id: 'alice', agent: null });
    expect(trailers['edict-export-sha256']).toBe(sha256(bytes));
    const none = await exported('tenant=edict&format=parquet&subject=nobody');
    expect(parquetMetadata(Uint8Array.from(none.bytes).buffer).num_rows).toBe(0n);
  });

  /** A reader of many rows that counts how many were asked for. */
  const endless = async (rows: number) => {
    const state = { read: 0 };
    let sample: FoundDecision | undefined;
    const asOf = { logId: 4, size: 100n };
    for await (const each of ledger.decisions('initech', {}, { order: 'oldest', asOf, limit: 1 })) sample = each;
    reader = {
      ...ledger,
      decisions: async function* () {
        for (let row = 0; row < rows; row += 1) {
          state.read += 1;
          if (row % 1_000 === 0) await sleep(0);
          if (sample !== undefined) yield sample;
        }
      },
    };
    return state;
  };

  it('reads no more of the ledger than whoever reads it takes and sockets hold', async () => {
    // Some 57 MB: more than the kernel keeps for two sockets.
    const rows = 30_000;
    const state = await endless(rows);
    const size = await new Promise<number>((resolve, reject) => {
      httpRequest(`${audit.url}/v1/export?tenant=initech`, (response) => {
        response.pause();
        const watch = async (): Promise<void> => {
          // As long as it goes on, it is not yet held up.
          for (let before = -1; before !== state.read; await sleep(300)) before = state.read;
          expect(state.read).toBeLessThan(rows);
          let bytes = 0;
          response.on('data', (part: Buffer) => (bytes += part.length));
          response.once('end', () => resolve(bytes));
          response.resume();
        };
        watch().catch(reject);
      })
        .once('error', reject)
        .end();
    });
    expect(state.read).toBe(rows);
    expect(size).toBeGreaterThan(rows);
  }, 60_000);

  it('keeps one row group of Parquet in memory', async () => {
    const state = await endless(25_000);
    const rows = async function* () {
      const asOf = { logId: 4, size: 100n };
      for await (const found of reader.decisions('initech', {}, { order: 'oldest', asOf }))
        yield exportRow('initech', found, searchNames, 0n);
    };
    const read: number[] = [];
    const parts: Uint8Array[] = [];
    for await (const part of encodeParquet(rows())) {
      read.push(state.read);
      parts.push(part);
    }
    expect(read).toEqual([10_000, 20_000, 25_000]);
    const metadata = parquetMetadata(Uint8Array.from(Buffer.concat(parts)).buffer);
    expect(metadata.row_groups.map(({ num_rows: count }) => count)).toEqual([10_000n, 10_000n, 5_000n]);
  }, 60_000);

  /** The newest access entry, once it says so. */
  const untilState = async (tenant: string, state: string) => {
    const deadline = Date.now() + 10_000;
    for (;;) {
      const last = (await entriesOf(tenant)).at(-1);
      if (last?.['state'] === state || Date.now() > deadline) return last;
      await sleep(50);
    }
  };

  it('writes that a download was broken off, and how much had been given', async () => {
    const state = await endless(1_000_000);
    await new Promise<void>((resolve, reject) => {
      const request = httpRequest(`${audit.url}/v1/export?tenant=globex`, (response) => {
        response.once('data', () => request.destroy());
        response.once('close', resolve);
        response.once('error', () => undefined);
      });
      request.once('error', (error) => (/hang up|aborted|reset/i.test(String(error)) ? resolve() : reject(error)));
      request.end();
    });
    const last = await untilState('globex', 'aborted');
    expect(last).toMatchObject({
      access: 'export',
      state: 'aborted',
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown,
    });
    expect(Number(last?.['bytes'])).toBeGreaterThan(0);
    expect(state.read).toBeLessThan(1_000_000);
  });

  it('gives no last byte when the entry cannot be written, and nothing when it cannot even begin', async () => {
    recordAccess = (tenant, document) =>
      document['state'] === 'complete'
        ? Promise.reject(new AppError('database_unavailable', 'gone'))
        : record(tenant, document);
    await expect(exported('tenant=acme&format=csv')).rejects.toThrow(/aborted|hang up/);
    expect(await untilState('acme', 'aborted')).toMatchObject({ format: 'csv', bytes: expect.any(String) as unknown });
    recordAccess = () => Promise.reject(new AppError('database_unavailable', 'gone'));
    expect(await exported('tenant=acme&format=csv')).toMatchObject({ status: 503 });
  });

  it('refuses what is no export, other tenants, other methods and pages of other origins, and writes nothing', async () => {
    const before = (await entriesOf('acme')).length;
    for (const query of ['format=xlsx', 'limit=5', 'cursor=x', 'order=oldest', 'subjct=a', 'format=csv&format=cef'])
      expect(await exported(`tenant=acme&${query}`)).toMatchObject({ status: 400 });
    expect(await exported('tenant=nobody')).toMatchObject({ status: 403 });
    expect(await exported('tenant=acme', { 'sec-fetch-site': 'cross-site' })).toMatchObject({ status: 403 });
    expect(await exported('tenant=acme', {}, 'HEAD')).toMatchObject({ status: 405 });
    expect(await exported('tenant=acme', {}, 'POST')).toMatchObject({ status: 405 });
    const [auditor, gateway] = [newApiKey(), newApiKey()];
    const { settings } = loadSettings({ environment: {} });
    const caller = { tenant: 'globex', requires_agent: true, believe_unverified: true, properties: {} };
    access = auditAccess({
      ...settings,
      callers: [
        { ...caller, id: 'auditor', roles: ['audit'], api_keys: [auditor.stored] },
        { ...caller, id: 'gateway', roles: ['decide'], api_keys: [gateway.stored] },
      ],
    });
    const as = (key: string) => ({ authorization: `Bearer ${key}` });
    expect(await exported('')).toMatchObject({ status: 401 });
    expect(await exported('', as(gateway.key))).toMatchObject({ status: 403 });
    expect(await exported('tenant=acme', as(auditor.key))).toMatchObject({ status: 403 });
    expect(await exported('', as(auditor.key))).toMatchObject({ status: 200 });
    expect((await entriesOf('acme')).length).toBe(before);
  });
});

describe('escaping', () => {
  it.each([
    ['', '""'],
    ['a"b', '"a""b"'],
    ['＝1', '"\'＝1"'],
    ["'x", '"\'\'x"'],
    ['a=1', '"a=1"'],
  ])('of CSV: %j', (value, cell) => {
    expect(csvCell(value)).toBe(cell);
  });

  it.each([
    ['a|b\\c', 'a\\|b\\\\c', 'a|b\\\\c'],
    ['a=b', 'a=b', 'a\\=b'],
    ['a\r\nb', 'a b', 'a\\r\\nb'],
    ['\u0085\ud800', '\\\\u0085\\\\ud800', '\\\\u0085\\\\ud800'],
  ])('of CEF: %j', (value, header, extension) => {
    expect([cefHeader(value), cefValue(value)]).toEqual([header, extension]);
  });
});
