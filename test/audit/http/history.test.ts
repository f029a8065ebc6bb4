import { createHmac } from 'node:crypto';
import { auditAccess, type AuditAccess } from '../../../services/audit/http/access.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { readCursor, writeCursor } from '../../../services/audit/core/query-cursor.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { hasFailed } from '../../../services/audit/core/verify-report.ts';
import { newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { createFeeder, decisionMembers, LEDGER_TEMPLATE, MASK_KEY, openLedger, searchNames } from './ledger-fixture.ts';
import { startAudit, type StartedAudit } from './started-audit.ts';

interface Page {
  readonly as_of: { readonly log: string; readonly size: string };
  readonly decisions: readonly { readonly seq: string; readonly log: string; readonly chain?: readonly string[] }[];
  readonly next_cursor: string | null;
}

describe('the history of decisions', () => {
  let test: TestDatabase;
  let admin: Database;
  let reader: Database;
  let audit: StartedAudit;
  let access: AuditAccess;
  const cursorKey = Buffer.alloc(32, 3);

  beforeAll(async () => {
    test = await createTestDatabase(LEDGER_TEMPLATE);
    admin = connectPostgres(test.adminUrl, { poolSize: 4 });
    await admin.query(
      `do $$ begin create role edict_history_reader login in role edict_reader_all;
       exception when duplicate_object or unique_violation then null; end $$`,
    );
    // As the audit service reads: under row-level security.
    reader = connectPostgres(test.url('edict_history_reader'), { poolSize: 4 });
    const { keys } = openLedger(admin);
    audit = await startAudit({
      database: reader,
      keys,
      reports: admin,
      access: () => access,
      cursorKey,
      nameSubject: searchNames,
      maskKey: () => MASK_KEY,
    });
  });
  beforeEach(() => {
    const open = auditAccess(loadSettings({ environment: {} }).settings);
    if (open.mode !== 'open') throw new Error('open');
    access = { ...open, tenants: new Set(['acme', 'globex', 'initech', 'edict']) };
  });
  afterAll(async () => {
    await audit.close();
    await reader.close();
    await admin.close();
    await test.close();
  });

  const get = async (query: string, headers: Readonly<Record<string, string>> = {}) => {
    const response = await fetch(`${audit.url}/v1/decisions?${query}`, { headers });
    return { status: response.status, body: await response.json() };
  };
  const page = async (query: string): Promise<Page> => {
    const { status, body } = await get(query);
    expect([status, body]).toEqual([200, expect.anything()]);
    return body as Page;
  };
  const seqs = ({ decisions }: Page): string => decisions.map(({ seq }) => seq).join(' ');

  it.each([
    ['chain=planner', '3 2 1'],
    ['chain=analytics-agent', '1'],
    ['chain=planner&chain=analytics-agent', '1'],
    ['chain=planner&chain=researcher', '1'],
    ['chain=researcher&chain=planner', '3'],
    ['chain=researcher&chain=writer', '3'],
    ['chain=analytics-agent&chain=planner', ''],
    ['chain=planner&chain=planner', ''],
    ['chain=deep', '4 3'],
    ['chain=deep&chain=deep', '4'],
    ['chain=z&chain=deep&chain=writer', '3'],
    ['chain=planner&agent=planner', '2'],
    ['reason=a', '2'],
    ['reason=purpose_mismatch', '3'],
    ['reason=fifth', '2'],
    ['reason=sixth&decision=deny', '2'],
    ['reason=nothing', ''],
    ['resource=a/b', '3 2'],
    ['resource=a/b&resource_type=file', '2'],
    ['resource=a/b&reason=sixth', '2'],
    ['session=s-9', '3 1'],
    ['session=s-9&agent=writer', '3'],
    ['purpose=quarterly-report', '1'],
    ['request_id=r-1', '1'],
    ['subject=alice&action=write', '3'],
    ['decision=allow', '4 1'],
    ['action=read', '4 2 1'],
    ['from=2026-01-01T00:00:02Z', '4 3 2'],
    ['to=2026-01-01T00:00:02Z', '1'],
    ['from=2026-01-01T00:00:02Z&to=2026-01-01T00:00:04Z&session=s-9', '3'],
    ['from=2027-01-01T00:00:00Z', ''],
  ])('finds %s under row-level security, in both orders', async (query, expected) => {
    expect(seqs(await page(`tenant=initech&${query}`))).toBe(expected);
    const reversed = expected.split(' ').reverse().join(' ');
    expect(seqs(await page(`tenant=initech&${query}&order=oldest`))).toBe(reversed);
  });

  it('shows through whom an agent acted, and what had to be carried out', async () => {
    const { decisions } = await page('tenant=initech&chain=researcher&order=oldest');
    expect(decisions[0]).toMatchObject({
      agent: 'analytics-agent',
      chain: ['planner', 'researcher'],
      obligations: [{ id: 'o1', type: 'redact' }],
      read_from: 'event',
    });
    expect(decisions[0]).not.toHaveProperty('search_mismatch');
  });

  it('verifies the chain in the search table against the event', async () => {
    const { keys } = openLedger(admin);
    const verify = createVerifier({
      database: admin,
      reports: admin,
      keys,
      nameForSearch: searchNames,
      graceMs: 60_000,
      placeKey: Buffer.alloc(32, 1),
    });
    const whole = await verify('initech', { remembered: [], onProgress: () => undefined });
    expect(whole.some(hasFailed)).toBe(false);
    await admin.query(`update edict.decision set chain = '{planner}' where log_id = 4 and seq = 1`);
    try {
      const { decisions } = await page('tenant=initech&chain=planner&agent=analytics-agent');
      expect(decisions).toMatchObject([{ chain: ['planner', 'researcher'], search_mismatch: ['search column chain'] }]);
      const [report] = await verify('initech', { remembered: [], onProgress: () => undefined });
      expect(report?.verdicts.projection).toMatchObject({
        status: 'failed',
        firstBad: { what: 'search column chain' },
      });
    } finally {
      await admin.query(`update edict.decision set chain = '{planner,researcher}' where log_id = 4 and seq = 1`);
    }
  });

  it('finds what is masked by its value, with the mask key of the tenant', async () => {
    const masked = `masked:${createHmac('sha256', MASK_KEY).update('"secret"').digest('hex')}`;
    await admin.query(
      `update edict.decision set agent = $1::text, resource = $1::text, session_id = $1::text, purpose = $1::text,
         action = $1::text, reasons = array['x', $1::text], chain = array['y', $1::text]
       where log_id = 3 and seq = 1`,
      [masked],
    );
    for (const name of ['agent', 'resource', 'session', 'purpose', 'action', 'reason', 'chain'])
      for (const value of ['secret', masked])
        expect([name, seqs(await page(`tenant=globex&${name}=${value}`))]).toEqual([name, '1']);
    expect(seqs(await page('tenant=globex&chain=y&chain=secret'))).toBe('1');
    expect(seqs(await page('tenant=globex&subject=erin&order=oldest'))).toBe('2');
  });

  it('goes on page by page in both orders, without what came meanwhile', async () => {
    const { write } = openLedger(admin);
    const first = await page('tenant=globex&limit=1&order=oldest');
    const newest = await page('tenant=globex&limit=1');
    expect([seqs(first), seqs(newest)]).toEqual(['1', '2']);
    const { log } = await createLedger({
      write,
      tenant: 'globex',
      authority: 'audit.example.com',
      keyFile: (name, incarnation) => `/tmp/edict-history-${process.pid}-${name}-${incarnation}.pem`,
      nowUs: () => BigInt(Date.now()) * 1000n,
      newIncarnation: true,
    });
    const feeder = createFeeder(write, log);
    await feeder.store([
      feeder.decision(decisionMembers('mallory', 'read', 'deny')),
      feeder.decision(decisionMembers('mallory', 'read', 'allow')),
    ]);
    const second = await page(`tenant=globex&limit=5&order=oldest&cursor=${first.next_cursor}`);
    expect([seqs(second), second.next_cursor, second.as_of]).toEqual(['2', null, first.as_of]);
    expect(seqs(await page(`tenant=globex&limit=5&cursor=${newest.next_cursor}`))).toBe('1');
    // Asked anew, the incarnations follow each other.
    const all = await page('tenant=globex&order=oldest');
    expect(all.decisions.map(({ log: origin, seq }) => `${origin.at(-1)}:${seq}`)).toEqual([
      '1:1',
      '1:2',
      '2:1',
      '2:2',
    ]);
    const pages: string[] = [];
    for (let cursor = ''; ;) {
      const each: Page = await page(`tenant=globex&limit=3${cursor}`);
      pages.push(each.decisions.map(({ log: origin, seq }) => `${origin.at(-1)}:${seq}`).join(' '));
      if (each.next_cursor === null) break;
      cursor = `&cursor=${each.next_cursor}`;
    }
    expect(pages).toEqual(['2:2 2:1 1:2', '1:1']);
  });

  it('refuses a cursor of another order, filter, tenant or caller, and one that was forged', async () => {
    const { next_cursor: cursor } = await page('tenant=initech&limit=1&chain=planner');
    const scope = { tenant: 'initech', caller: 'somebody', filter: { chain: ['planner'] }, order: 'newest' } as const;
    const opened = { after: { logId: 4, seq: 3n }, asOf: { logId: 4, size: 1_000_000n } };
    const forged = writeCursor(Buffer.alloc(32, 4), scope, opened);
    const ofAnother = writeCursor(cursorKey, scope, opened);
    for (const query of [
      `tenant=initech&limit=1&chain=planner&order=oldest&cursor=${cursor}`,
      `tenant=initech&chain=planner&chain=planner&cursor=${cursor}`,
      `tenant=globex&chain=planner&cursor=${cursor}`,
      `tenant=initech&chain=planner&cursor=${forged}`,
      `tenant=initech&chain=planner&cursor=${ofAnother}`,
      `tenant=initech&chain=planner&cursor=${cursor}A`,
    ])
      expect(await get(query)).toMatchObject({ status: 400, body: { code: 'request_invalid' } });
    expect(readCursor(cursorKey, scope, ofAnother)).toEqual(opened);
  });

  it.each([
    ['chain', Array.from({ length: 9 }, () => 'chain=a').join('&')],
    ['chain', 'chain='],
    ['order', 'order=best'],
    ['resource_type', 'resource_type=dataset'],
  ])('refuses a bad %s', async (parameter, query) => {
    expect(await get(`tenant=initech&${query}`)).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining(`${parameter}: `) as unknown },
    });
  });

  it('takes hostile values for nothing but values', async () => {
    for (const value of [`'; drop table edict.decision; --`, '{a,b}', '$1', '\u202e\ud83d\ude00', '%', 'a\nb', '"'])
      for (const name of ['chain', 'session', 'reason', 'resource', 'purpose', 'request_id', 'agent', 'action'])
        expect(seqs(await page(`tenant=initech&${name}=${encodeURIComponent(value)}`))).toBe('');
  });

  it('gives the key of one tenant no row of another', async () => {
    const { key, stored } = newApiKey();
    const { settings } = loadSettings({ environment: {} });
    access = auditAccess({
      ...settings,
      callers: [
        {
          id: 'auditor',
          tenant: 'acme',
          roles: ['audit'],
          api_keys: [stored],
          requires_agent: true,
          believe_unverified: true,
          properties: {},
        },
      ],
    });
    const headers = { authorization: `Bearer ${key}` };
    expect((await get('tenant=initech&chain=planner', headers)).status).toBe(403);
    expect(await get('chain=planner', headers)).toMatchObject({ status: 200, body: { decisions: [] } });
  });
});
