import { createServer, request as httpRequest, type Server } from 'node:http';
import { connect } from 'node:net';
import { createAuditApp, type AuditApp } from '../../../services/audit/http/app.ts';
import { auditAccess, type AuditAccess } from '../../../services/audit/http/access.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { commitPayload, decodeEntry, leafHash } from '../../../services/audit/core/entry.ts';
import { fromHex, hex } from '../../../services/shared/contracts/bytes.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedgerReader } from '../../../services/audit/postgres/read-ledger.ts';
import { createMetaReader } from '../../../services/audit/postgres/read-meta.ts';
import { createTileReader } from '../../../services/audit/postgres/read-tiles.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { listen, type ListeningServer } from '../../../services/shared/runtime/http-server.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { createRegistry, type Registry } from '../../../services/shared/runtime/metrics.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { LEDGER_TEMPLATE, MASK_KEY, openLedger, searchNames } from './ledger-fixture.ts';

interface Page {
  readonly decisions: readonly {
    readonly decision_id: string;
    readonly seq: string;
    readonly decision: string;
    readonly subject?: { readonly id: string };
    readonly search_mismatch?: readonly string[];
    readonly read_from: string;
    readonly payload: string;
  }[];
  readonly next_cursor: string | null;
  readonly covered_by: null;
}

describe('the audit service over HTTP', () => {
  let test: TestDatabase;
  let database: Database;
  let server: ListeningServer;
  let audit: AuditApp;
  let registry: Registry;
  let access: AuditAccess;
  const open = auditAccess(loadSettings({ environment: {} }).settings);

  beforeAll(async () => {
    test = await createTestDatabase(LEDGER_TEMPLATE);
    database = connectPostgres(test.adminUrl, { poolSize: 4 });
    const { keys } = openLedger(database);
    registry = createRegistry({ service: 'audit', processMetrics: false });
    audit = createAuditApp({
      reader: createLedgerReader({ database, keys }),
      tiles: createTileReader(database),
      meta: createMetaReader(database),
      verify: createVerifier({
        database,
        reports: database,
        keys,
        nameForSearch: searchNames,
        graceMs: 60_000,
        placeKey: Buffer.alloc(32, 1),
      }),
      access: () => access,
      cursorKey: Buffer.alloc(32, 3),
      nameSubject: searchNames,
      maskKey: () => MASK_KEY,
      checks: {},
      registry,
      logger: createLogger({ level: 'silent', service: 'test' }),
      listenHost: '127.0.0.1',
      allowedHosts: [],
    });
    const http: Server = createServer(audit.app);
    server = await listen(http, { host: '127.0.0.1', port: 0 });
  });
  beforeEach(() => {
    if (open.mode !== 'open') throw new Error('open');
    access = { ...open, tenants: new Set(['acme', 'globex', 'edict', 'default']) };
  });
  afterAll(async () => {
    await server.close();
    await audit.close();
    await database.close();
    await test.close();
  });

  const get = async (path: string, headers: Readonly<Record<string, string>> = {}) => {
    const response = await fetch(`${server.url}${path}`, { headers });
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      body: await response.json(),
    };
  };
  const page = async (query: string): Promise<Page> => {
    const { status, body } = await get(`/v1/decisions?tenant=acme${query}`);
    expect(status).toBe(200);
    return body as Page;
  };
  const seqs = ({ decisions }: Page): readonly string[] => decisions.map(({ seq }) => seq);

  it('shows decisions newest first, with who, and says that no checkpoint covers them', async () => {
    const all = await page('');
    expect(seqs(all)).toEqual(['9', '8', '7', '6', '4', '3', '2', '1']);
    expect(all.covered_by).toBeNull();
    expect(all.decisions[7]).toMatchObject({
      decision: 'allow',
      subject: { type: 'user', id: 'alice' },
      action: 'read',
      resource: { type: 'dataset', id: 'hr.salaries' },
      reasons: [{ code: 'permitted' }],
      event_time: '2026-01-01T00:00:01.000Z',
      read_from: 'event',
      payload: 'opened',
      covered_by: null,
    });
  });

  it.each([
    ['&subject=alice', ['9', '2', '1']],
    ['&subject=alice&subject_type=service', []],
    ['&agent=analytics-agent', ['3', '2']],
    ['&action=delete', ['8']],
    ['&resource=finance.invoices', ['4']],
    ['&decision=deny', ['8', '6', '3', '2']],
    ['&reason=agent_not_entitled&subject=bob', ['3']],
    ['&session=s-1', ['2']],
    ['&purpose=headcount-report&decision=allow', ['9', '7', '4', '1']],
    ['&request_id=none', []],
    ['&from=2026-01-01T00:00:02Z&to=2026-01-01T00:00:04Z', ['3', '2']],
  ])('filters by %s', async (query, expected) => {
    expect(seqs(await page(query))).toEqual(expected);
  });

  it('finds a masked person with the mask key of the tenant', async () => {
    const { body } = await get('/v1/decisions?tenant=globex&subject=erin');
    expect(seqs(body as Page)).toEqual(['2']);
    expect((body as Page).decisions[0]?.subject?.id).toMatch(/^masked:[0-9a-f]{64}$/);
    expect(JSON.stringify((body as Page).decisions)).not.toContain('erin');
  });

  it('goes on page by page with a cursor that is good for this filter and caller only', async () => {
    const first = await page('&limit=3&decision=deny');
    expect(seqs(first)).toEqual(['8', '6', '3']);
    const cursor = first.next_cursor ?? '';
    const second = await page(`&limit=3&decision=deny&cursor=${cursor}`);
    expect(seqs(second)).toEqual(['2']);
    expect(second.next_cursor).toBeNull();
    const changed = `${cursor.startsWith('A') ? 'B' : 'A'}${cursor.slice(1)}`;
    for (const query of [
      `tenant=acme&decision=allow&cursor=${cursor}`,
      `tenant=globex&decision=deny&cursor=${cursor}`,
      `tenant=acme&decision=deny&cursor=${changed}`,
      'tenant=acme&cursor=x',
    ])
      expect(await get(`/v1/decisions?${query}`)).toMatchObject({
        status: 400,
        body: { code: 'request_invalid', detail: expect.stringMatching(/^cursor: /) as unknown },
      });
  });

  it.each([
    ['limit', 'limit=501'],
    ['limit', 'limit=0'],
    ['limit', 'limit=1e2'],
    ['from', 'from=yesterday'],
    ['decision', 'decision=maybe'],
    ['subjct', 'subjct=alice'],
    ['agent', 'agent='],
    ['agent', 'agent=a&agent=b'],
    ['agent', 'agent=%00'],
    ['subject_type', 'subject_type=user'],
    ['agent', `agent=${'a'.repeat(1025)}`],
    ['tenant', 'tenant=NO'],
  ])('refuses a bad %s and names it', async (parameter, query) => {
    const answer = await get(`/v1/decisions?${query}`);
    expect(answer).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining(`${parameter}: `) as unknown },
    });
    expect(answer.type).toContain('application/problem+json');
  });

  it('shows one event so that every hash can be computed anew', async () => {
    const [newest] = (await page('&limit=1')).decisions;
    const { body } = await get(`/v1/decisions/${newest?.decision_id}?tenant=acme`);
    const shown = body as {
      event_base64: string;
      entry_base64: string;
      salt: string;
      content_type: string;
      leaf: string;
      event: { id: string };
    };
    expect(shown).toMatchObject({ proof: null, checkpoint: null, checks: { leaf: true, commitment: true }, seq: '9' });
    const header = Buffer.from(shown.entry_base64, 'base64');
    expect(hex(leafHash(header))).toBe(shown.leaf);
    const payload = Buffer.from(shown.event_base64, 'base64');
    expect(hex(commitPayload(fromHex(shown.salt), shown.content_type, payload))).toBe(
      hex(decodeEntry(header).commitment),
    );
    expect(shown.event.id).toBe(newest?.decision_id);
    expect((await get(`/v1/decisions/${newest?.decision_id}?tenant=globex`)).status).toBe(404);
    expect((await get('/v1/decisions/nonsense?tenant=acme')).status).toBe(400);
  });

  it('shows what the event says where the search table says otherwise, and names the difference', async () => {
    await database.query("update edict.decision set decision = 'allow' where log_id = 2 and seq = 8");
    try {
      const [row] = (await page('&action=delete')).decisions;
      expect(row).toMatchObject({ decision: 'deny', search_mismatch: ['search column decision'] });
    } finally {
      await database.query("update edict.decision set decision = 'deny' where log_id = 2 and seq = 8");
    }
  });

  it('verifies, one run a tenant, and keeps the report', async () => {
    const post = (body: string, type = 'application/json') =>
      fetch(`${server.url}/v1/verify?tenant=acme`, { method: 'POST', headers: { 'content-type': type }, body });
    expect((await post('{}', 'text/plain')).status).toBe(415);
    expect((await post('{"known":[{"origin":"x","size":"0","leaf":""}]}')).status).toBe(400);
    expect((await post(`{"known":"${'x'.repeat(9_000_000)}"}`)).status).toBe(413);
    const started = await post('{}');
    expect(started.status).toBe(202);
    const { run } = (await started.json()) as { run: { id: string } };
    expect(((await (await post('{}')).json()) as { run: { id: string } }).run.id).toBe(run.id);
    await audit.close();
    expect((await get('/v1/verify?tenant=acme')).body).toMatchObject({
      run: { id: run.id, state: 'done', progress: { done: '10', total: '10' } },
      reports: [{ tenant: 'acme', size: '10', verdicts: { integrity: { status: 'ok' } } }],
    });
    expect((await get('/v1/verify?tenant=globex')).body).toMatchObject({ run: null, reports: [] });
  });

  it('says what is wrong with a tenant without a ledger, an unknown path and a wrong method', async () => {
    expect(await get('/v1/decisions')).toMatchObject({ status: 404, body: { code: 'ledger_missing' } });
    expect(await get('/v1/nothing')).toMatchObject({ status: 404 });
    const wrong = await fetch(`${server.url}/v1/decisions`, { method: 'DELETE' });
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET']);
  });

  it('refuses a foreign Host on an open listener', async () => {
    const status = await new Promise<number | undefined>((resolve, reject) => {
      httpRequest(`${server.url}/v1/decisions`, { headers: { host: 'attacker.example' } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });
    expect(status).toBe(403);
  });

  it('refuses two Host headers, whatever they say (RFC 9112, 3.2)', async () => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    socket.write(`GET /health/live HTTP/1.1\r\nHost: ${hostname}\r\nhost: ${hostname}\r\nConnection: close\r\n\r\n`);
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('"code":"malformed_http"');
  });

  it('gives an auditor the own tenant, and no other', async () => {
    const [auditor, gateway, operator] = [newApiKey(), newApiKey(), newApiKey()];
    const { settings } = loadSettings({ environment: {} });
    access = auditAccess({
      ...settings,
      callers: (
        [
          ['auditor', auditor.stored, ['audit']],
          ['gateway', gateway.stored, ['decide']],
          ['operator', operator.stored, ['operate']],
        ] as const
      ).map(([id, stored, roles]) => ({
        id,
        tenant: 'acme',
        roles: [...roles],
        api_keys: [stored],
        requires_agent: true,
        believe_unverified: true,
        properties: {},
      })),
    });
    const as = (key: string) => ({ authorization: `Bearer ${key}` });
    expect((await get('/v1/decisions')).status).toBe(401);
    expect((await get('/v1/decisions', as(newApiKey().key))).status).toBe(401);
    expect((await get('/v1/decisions', as(gateway.key))).status).toBe(403);
    expect((await get('/v1/decisions?tenant=globex', as(auditor.key))).status).toBe(403);
    const own = await get('/v1/decisions', as(auditor.key));
    expect(own).toMatchObject({ status: 200, body: { tenant: 'acme' } });
    expect((await get('/v1/decisions?tenant=acme', as(auditor.key))).status).toBe(200);
    expect((await get('/health/live')).status).toBe(200);
    const metricsAs = async (key: string): Promise<number> =>
      (await fetch(`${server.url}/metrics`, { headers: as(key) })).status;
    // They count the whole installation.
    expect(await Promise.all([auditor, gateway, operator].map(({ key }) => metricsAs(key)))).toEqual([403, 403, 200]);
  });

  it('does not start without callers where other machines can reach it', () => {
    const { settings } = loadSettings({ environment: { EDICT_AUDIT_LISTEN: '0.0.0.0:7181' } });
    expect(() => auditAccess(settings)).toThrow(/needs callers/);
  });

  it('shows emitters and counts every query', async () => {
    expect((await get('/v1/emitters?tenant=acme')).body).toMatchObject({
      tenant: 'acme',
      emitters: [{ attested: true, retired: false, boots: [{ boot: '1', complete_to: '9', holes: [] }] }],
    });
    const metrics = await registry.metrics();
    expect(metrics).toMatch(/edict_audit_queries_total\{route="decisions",status="200"[^}]*\} \d+/);
    expect(metrics).toMatch(/edict_audit_queries_total\{route="decisions",status="400"[^}]*\} \d+/);
  });
});
