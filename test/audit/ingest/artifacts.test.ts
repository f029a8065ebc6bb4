import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { auditAccess, type AuditAccess } from '../../../services/audit/http/access.ts';
import { hasFailed } from '../../../services/audit/core/verify-report.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { readBundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { createAuthenticate, newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { ARTIFACT_PART_BYTES, BUNDLE_MEDIA_TYPE } from '../../../services/shared/contracts/artifact.ts';
import { sha256Hex } from '../../../services/shared/contracts/bytes.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { repositoryRoot } from '../../support/prepared-parts.ts';
import { artifactData, createEmitter, messageOf, type MadeEvent } from '../core/ingest-fixtures.ts';
import { openTestLedger, type LedgerHarness } from './fixtures.ts';
import { startAudit, type StartedAudit } from '../http/started-audit.ts';

/** What cannot be stored fails the test. */
const once = () => Promise.resolve(false);
const open = auditAccess(loadSettings({ environment: {} }).settings);

describe('artifacts in a ledger', () => {
  let opened: Awaited<ReturnType<typeof openTestLedger>>;
  let harness: LedgerHarness;
  let audit: StartedAudit;
  let access: AuditAccess;
  let offset = 0n;

  beforeAll(async () => {
    opened = await openTestLedger(['edict', 'acme', 'globex']);
    ({ harness } = opened);
    const { database, keys, nameForSearch } = harness;
    audit = await startAudit({
      database,
      keys,
      reports: database,
      access: () => access,
      nameSubject: nameForSearch,
    });
  });
  beforeEach(() => {
    if (open.mode !== 'open') throw new Error('open');
    access = { ...open, tenants: new Set(['acme', 'globex', 'edict']) };
  });
  afterAll(async () => {
    await audit.close();
    await opened.close();
  });

  const take = async (events: readonly MadeEvent[]): Promise<void> => {
    const messages = events.map((event) => messageOf(event, (offset += 1n) - 1n));
    await harness.newIngest().take(messages, once);
  };
  const get = async (digest: string, tenant = 'acme', headers: Readonly<Record<string, string>> = {}) => {
    const response = await fetch(`${audit.url}/v1/artifacts/${digest}?tenant=${tenant}`, { headers });
    return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) };
  };
  const problemOf = ({ status, body }: Awaited<ReturnType<typeof get>>) => {
    const { code, detail } = JSON.parse(body.toString('utf8')) as { code?: string; detail: string };
    return { status, code, detail };
  };
  const digestOf = (bytes: Buffer): string => `sha256:${sha256Hex(bytes)}`;
  const partsOf = (
    emitter: ReturnType<typeof createEmitter>,
    bytes: Buffer,
    parts: readonly number[],
    options: Parameters<typeof artifactData>[2] = {},
  ): readonly MadeEvent[] =>
    parts.map((part) => emitter.event('acme', { type: 'edict.artifact.v1', data: artifactData(bytes, part, options) }));

  it('are given with the digest once all parts are there, in whatever order and however often they come', async () => {
    const bytes = randomBytes(2 * ARTIFACT_PART_BYTES + 5);
    const digest = digestOf(bytes);
    const emitter = createEmitter();
    expect(problemOf(await get(digest))).toMatchObject({ status: 404 });
    const [first, second, third, again] = partsOf(emitter, bytes, [1, 2, 3, 2]) as [
      MadeEvent,
      MadeEvent,
      MadeEvent,
      MadeEvent,
    ];
    await take([third, first, third]);
    expect(problemOf(await get(digest))).toMatchObject({
      status: 409,
      detail: expect.stringContaining('2 of 3 parts') as string,
    });
    await take([second, again]);
    const found = await get(digest);
    expect(found.status).toBe(200);
    expect(found.body.equals(bytes)).toBe(true);
    expect(found.headers.get('content-type')).toBe('application/json');
    expect(found.headers.get('content-disposition')).toBe('attachment');
    expect(problemOf(await get(digest, 'globex'))).toMatchObject({ status: 404 });
    expect((await harness.kinds('acme')).filter((kind) => kind === 'artifact')).toHaveLength(4);
  });

  it('that are bundles have the digest of their files', async () => {
    const archive = await readFile(path.join(repositoryRoot, 'bundles', 'mesh.tar.gz'));
    const { digest } = await readBundle(archive);
    const emitter = createEmitter();
    await take(partsOf(emitter, archive, [1], { digest, mediaType: BUNDLE_MEDIA_TYPE }));
    const found = await get(digest);
    expect(found.status).toBe(200);
    expect(found.headers.get('content-type')).toBe(BUNDLE_MEDIA_TYPE);
    expect((await readBundle(found.body)).digest).toBe(digest);
  });

  it('are not spoilt by what others send under their digest, and never given with other bytes', async () => {
    const [bytes, wrong] = [randomBytes(ARTIFACT_PART_BYTES + 9), randomBytes(ARTIFACT_PART_BYTES + 9)];
    const digest = digestOf(bytes);
    const [honest, rogue, half] = [createEmitter(), createEmitter(), createEmitter()];
    await take(partsOf(rogue, wrong, [1, 2], { digest }));
    expect(problemOf(await get(digest))).toMatchObject({
      status: 409,
      detail: expect.stringContaining('another digest') as string,
    });
    const claimed = partsOf(rogue, Buffer.from('no archive'), [1], { digest, mediaType: BUNDLE_MEDIA_TYPE });
    await take([...claimed, ...partsOf(half, bytes, [2])]);
    expect(problemOf(await get(digest))).toMatchObject({ status: 409 });
    await take(partsOf(honest, bytes, [1, 2]));
    await take(partsOf(rogue, wrong, [2], { digest }));
    const found = await get(digest);
    expect(found.status).toBe(200);
    expect(found.body.equals(bytes)).toBe(true);
  });

  it('of which a boot sent the beginning are put together of what the next one sent', async () => {
    const bytes = randomBytes(ARTIFACT_PART_BYTES + 1);
    const first = createEmitter(1n);
    await take(partsOf(first, bytes, [1]));
    await take(partsOf(createEmitter(2n, first.key), bytes, [1, 2]));
    expect((await get(digestOf(bytes))).body.equals(bytes)).toBe(true);
  });

  it.each<[string, Readonly<Record<string, unknown>>]>([
    ['has no content', { content: undefined }],
    ['has content that is no base64', { content: 'a!==' }],
    ['names no digest', { artifact: { digest: 'sha256:00', media_type: 'a/b', bytes: 2, part: 1, parts: 1 } }],
    ['has a part beyond the last', { artifact: { ...artifactOf('a'), part: 2, parts: 1 } }],
    ['is larger than any', { artifact: { ...artifactOf('a'), bytes: 2 ** 40 } }],
    ['has a media type that is none', { artifact: { ...artifactOf('a'), media_type: 'text/html\r\nx: y' } }],
  ])('an event that %s is set aside', async (_what, data) => {
    const before = await harness.kinds('acme');
    await take([createEmitter().event('acme', { type: 'edict.artifact.v1', data })]);
    expect((await harness.kinds('acme')).slice(before.length)).toEqual(['quarantine']);
  });

  it('are damaged when an entry lost its payload', async () => {
    const bytes = randomBytes(64);
    await take(partsOf(createEmitter(), bytes, [1]));
    const { database } = harness;
    await database.query('alter table edict.payload disable trigger user', []);
    const [{ name } = { name: '' }] = await database.query<{ name: string }>(
      `select format('edict.payload_l%s_s0', id) as name from edict.log where tenant = 'acme'`,
      [],
    );
    await database.query(`alter table ${name} disable trigger user`, []);
    await database.query(
      `delete from edict.payload p using edict.artifact_part a
       where a.digest = decode($1::text, 'hex') and p.log_id = a.log_id and p.seq = a.seq`,
      [sha256Hex(bytes)],
    );
    expect(problemOf(await get(digestOf(bytes)))).toMatchObject({
      status: 409,
      detail: expect.stringContaining('is missing') as string,
    });
  });

  it('are for auditors of their tenant', async () => {
    const [auditor, gateway, other] = [newApiKey(), newApiKey(), newApiKey()];
    const caller = { requires_agent: true, believe_unverified: false, properties: {} };
    access = {
      mode: 'callers',
      authenticate: createAuthenticate([
        { ...caller, id: 'auditor', tenant: 'acme', roles: ['audit'], api_keys: [auditor.stored] },
        { ...caller, id: 'gateway', tenant: 'acme', roles: ['decide'], api_keys: [gateway.stored] },
        { ...caller, id: 'other', tenant: 'globex', roles: ['audit'], api_keys: [other.stored] },
      ]),
    };
    const bytes = randomBytes(32);
    await take(partsOf(createEmitter(), bytes, [1]));
    const ask = async (key?: string, tenant = 'acme'): Promise<number> =>
      (await get(digestOf(bytes), tenant, key === undefined ? {} : { authorization: `Bearer ${key}` })).status;
    expect(await ask(auditor.key)).toBe(200);
    expect(await ask()).toBe(401);
    expect(await ask(gateway.key)).toBe(403);
    expect(await ask(other.key)).toBe(403);
    expect(await ask(other.key, 'globex')).toBe(404);
  });

  it('are asked for by a whole digest, with GET', async () => {
    expect((await get('sha256:00')).status).toBe(400);
    expect((await get('0'.repeat(64))).status).toBe(400);
    const response = await fetch(`${audit.url}/v1/artifacts/sha256:${'0'.repeat(64)}?tenant=acme`, { method: 'PUT' });
    expect(response.status).toBe(405);
  });

  it('are entries that a verification accepts', async () => {
    const fresh = await openTestLedger(['edict', 'acme']);
    try {
      const { database, keys, nameForSearch } = fresh.harness;
      const emitter = createEmitter();
      const events = [emitter.event('acme'), ...partsOf(emitter, randomBytes(ARTIFACT_PART_BYTES + 1), [1, 2])];
      const start = createEmitter(1n, emitter.key).event('edict', { type: 'edict.start.v1' });
      const messages = [start, ...events].map((event, index) => messageOf(event, BigInt(index)));
      await fresh.harness.newIngest().take(messages, once);
      const verify = createVerifier({
        database,
        reports: database,
        keys,
        nameForSearch,
        graceMs: 60_000,
        placeKey: Buffer.alloc(32, 1),
      });
      const reports = await verify('acme', {});
      expect(reports.map(hasFailed)).toEqual([false]);
      expect(await fresh.harness.kinds('acme')).toEqual(['incarnation', 'decision', 'artifact', 'artifact']);
    } finally {
      await fresh.close();
    }
  });
});

function artifactOf(text: string): Readonly<Record<string, unknown>> {
  return artifactData(Buffer.from(text), 1)['artifact'] as Readonly<Record<string, unknown>>;
}
