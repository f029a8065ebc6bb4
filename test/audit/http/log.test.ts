import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { openCheckpoint, signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { leafHash } from '../../../services/audit/core/entry.ts';
import { isConsistent, rootOfInclusion } from '../../../services/shared/tlog/proofs.ts';
import type { AuditAccess } from '../../../services/audit/http/access.ts';
import { createAuthenticate, newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../../../services/shared/contracts/signatures.ts';
import { fsck, type FsckResult } from '../../support/fsck.ts';
import { nameForSearch, newDecision } from '../postgres/ledger-fixture.ts';
import { openSigningFixture, type SigningFixture } from '../signer/signing-fixture.ts';
import { startAudit, type StartedAudit } from './started-audit.ts';

const callerOf = (id: string, tenant: string, roles: readonly ('audit' | 'decide')[]) => {
  const { key, stored } = newApiKey();
  const base = { requires_agent: false, believe_unverified: true, properties: {} };
  return { key, caller: { id, tenant, roles: [...roles], api_keys: [stored], ...base } };
};

describe('a log over HTTP', () => {
  let fixture: SigningFixture;
  let audit: StartedAudit;
  const auditor = callerOf('auditor', 'acme', ['audit']);
  const stranger = callerOf('stranger', 'globex', ['audit']);
  const gateway = callerOf('gateway', 'acme', ['decide']);
  const access: AuditAccess = {
    mode: 'callers',
    authenticate: createAuthenticate([auditor, stranger, gateway].map(({ caller }) => caller)),
  };

  const grow = async (decisions: number): Promise<void> => {
    const { ledger, sealer, newSigner } = fixture;
    await ledger.write(({ append }) =>
      append(
        ledger.log,
        Array.from({ length: decisions }, () => newDecision()),
      ),
    );
    await sealer.sealAll();
    await newSigner().signAll();
  };

  beforeEach(async () => {
    fixture = await openSigningFixture();
    const database = fixture.ledger.as('reader_all');
    audit = await startAudit({
      database,
      keys: fixture.ledger.keys,
      access: () => access,
      nameSubject: nameForSearch,
    });
  });
  afterEach(async () => {
    await audit.close();
    await fixture.ledger.close();
  });

  const get = async (resource: string, key: string | undefined = auditor.key, method = 'GET') =>
    fetch(`${audit.url}/log/acme/0/1/${resource}`, {
      method,
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
    });

  const check = (log = 'acme/0/1', vkey = 'acme-1.vkey'): Promise<FsckResult> => {
    const authorization = path.join(fixture.ledger.folder, 'authorization');
    writeFileSync(authorization, `Bearer ${auditor.key}\n`);
    return fsck(`${audit.url}/log/${log}`, path.join(fixture.ledger.folder, vkey), authorization);
  };

  /** Checkpoints as acme's key signs them, of sizes that its log does not have; each becomes a leaf of the meta log. */
  const growMeta = async (checkpoints: number): Promise<void> => {
    const { ledger, newSigner } = fixture;
    const { origin } = ledger.log;
    const key = signingKeyFromPem(readFileSync(path.join(ledger.folder, 'acme-1.pem'), 'utf8'));
    const verifier = parseVkey(formatVkey(origin, key.publicKey));
    const notes = Array.from({ length: checkpoints }, (_, n) =>
      signCheckpoint({ origin, size: BigInt(n + 1), root: Buffer.alloc(32, n) }, key, verifier),
    );
    await ledger.as('signer').query(
      `insert into edict.checkpoint (log_id, size, root, note, signed_us)
       select $1::int, u.i, sha256(u.note), u.note, u.i from unnest($2::bytea[]) with ordinality as u(note, i)`,
      [ledger.log.id, notes],
    );
    await newSigner().signAll();
  };
  const checkMeta = (): Promise<FsckResult> => check('-/meta/1', '@meta-1.vkey');

  it.each([
    ['of one seal only', [0]],
    ['of less than a tile', [3]],
    ['of exactly one tile', [254]],
    ['that grew over tiles', [300, 500, 1]],
  ])('%s is good to Tessera’s fsck', async (_name, steps) => {
    for (const decisions of steps) await grow(decisions);
    expect(await check()).toMatchObject({
      code: 0,
      said: expect.stringContaining("Successfully fsck'd log") as string,
    });
  });

  it.each([
    ['a header', 'update edict.entry set header = set_byte(header, 60, 255) where seq = 299', /log has/],
    ['a leaf hash', `update edict.entry set leaf = sha256('x') where seq = 299`, /log has/],
    ['a tile’s hash', `update edict.tree_node set hash = sha256('x') where index = 1`, /tile\/1\/000.* log has/],
    ['a checkpoint’s note', `update edict.checkpoint set note = set_byte(note, 50, 65) where size > 1`, /checkpoint/],
    ['entries, removed,', 'delete from edict.entry where seq > 400', /500|bundle/],
    ['hashes of tiles, removed,', 'delete from edict.tree_node where index = 0', /failed/],
  ])('%s altered in the database is not', async (_name, sql, expected) => {
    await grow(600);
    expect(await check()).toMatchObject({ code: 0 });
    await fixture.ledger
      .as('admin')
      .query(
        `alter table edict.entry drop constraint entry_leaf; alter table edict.entry drop constraint entry_position`,
      );
    await fixture.tamper(`${sql} and log_id = ${fixture.ledger.log.id}`);
    const { code, said } = await check();
    expect(code).toBe(1);
    expect(said).toMatch(expected);
  });

  it('the meta log over all checkpoints is good to fsck too, and not when it was altered', async () => {
    await growMeta(300);
    const resource = `${audit.url}/log/-/meta/1`;
    const asked = (path_: string, key?: string) =>
      fetch(`${resource}/${path_}`, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } });
    expect(await checkMeta()).toMatchObject({
      code: 0,
      said: expect.stringContaining("Successfully fsck'd log") as string,
    });
    // Every auditor may read it: its entries are hashes.
    for (const { key } of [auditor, stranger]) {
      const checkpoint = await asked('checkpoint', key);
      expect([checkpoint.status, checkpoint.headers.get('cache-control')]).toEqual([200, 'private, no-cache']);
      expect(await checkpoint.text()).toMatch(/^test\.example\/-\/meta\/1\n300\n/);
      expect((await asked('tile/entries/001.p/44', key)).status).toBe(200);
    }
    expect((await asked('checkpoint')).status).toBe(401);
    expect((await asked('checkpoint', gateway.key)).status).toBe(403);
    for (const missing of ['tile/0/001.p/45', 'tile/0/001', 'tile/2/000.p/1', 'tile/x'])
      expect((await asked(missing, auditor.key)).status).toBe(404);
    expect(
      (await fetch(`${audit.url}/log/-/meta/2/checkpoint`, { headers: { authorization: `Bearer ${auditor.key}` } }))
        .status,
    ).toBe(404);
    for (const [sql, back] of [
      [
        `update edict.meta_leaf set entry = sha256('x') where index = 299`,
        'update edict.meta_leaf m set entry = sha256(c.note) from edict.checkpoint c where c.log_id = m.log_id and c.size = m.size',
      ],
      [`update edict.meta_node set hash = sha256('x')`, undefined],
    ] as const) {
      await fixture.tamper(sql);
      expect(await checkMeta()).toMatchObject({
        code: 1,
        said: expect.stringMatching(/log has|calculated root/) as string,
      });
      if (back !== undefined) await fixture.tamper(back);
    }
  });

  it('says of each resource whether it may be kept', async () => {
    await grow(300);
    const checkpoint = await get('checkpoint');
    expect([
      checkpoint.status,
      checkpoint.headers.get('content-type'),
      checkpoint.headers.get('cache-control'),
    ]).toEqual([200, 'text/plain; charset=utf-8', 'private, no-cache']);
    expect(await checkpoint.text()).toMatch(
      /^test\.example\/acme\/0\/1\n302\n[^\n]{44}\n\n— test\.example\/acme\/0\/1 /,
    );
    for (const [resource, bytes] of [
      ['tile/0/000', 8_192],
      ['tile/0/001.p/46', 46 * 32],
      ['tile/1/000.p/1', 32],
      ['tile/entries/001.p/46', undefined],
    ] as const) {
      const tile = await get(resource);
      expect(tile.headers.get('cache-control')).toBe('private, max-age=31536000, immutable');
      expect(tile.headers.get('content-type')).toBe('application/octet-stream');
      const { byteLength } = await tile.arrayBuffer();
      if (bytes !== undefined) expect(byteLength).toBe(bytes);
    }
  });

  it('gives nothing that no checkpoint covers', async () => {
    expect((await get('checkpoint')).status).toBe(404);
    await grow(10);
    await fixture.ledger.write(({ append }) => append(fixture.ledger.log, [newDecision()]));
    expect((await get('tile/0/000.p/12')).status).toBe(200);
    for (const resource of [
      'tile/0/000.p/13',
      'tile/entries/000.p/13',
      'tile/0/000',
      'tile/1/000.p/1',
      'tile/0/001.p/1',
    ])
      expect((await get(resource)).status).toBe(404);
  });

  it('proves an entry, and that it goes on from what the auditor holds', async () => {
    const vkey = parseVkey(readFileSync(path.join(fixture.ledger.folder, 'acme-1.vkey'), 'utf8'));
    const ask = async (route: string): Promise<{ status: number; body: Readonly<Record<string, unknown>> }> => {
      const response = await fetch(`${audit.url}${route}`, { headers: { authorization: `Bearer ${auditor.key}` } });
      return { status: response.status, body: (await response.json()) as Readonly<Record<string, unknown>> };
    };
    const hashesIn = (proof: unknown): readonly Buffer[] =>
      (proof as { hashes: string[] }).hashes.map((hash) => Buffer.from(hash, 'base64'));
    const page = async (): Promise<{ readonly [name: string]: unknown; decisions: Record<string, string>[] }> =>
      (await ask('/v1/decisions?limit=1')).body as never;

    // One event is found by the row that the ingest makes; these entries were appended without it.
    const receive = ({ decision_id: eventId, seq }: Record<string, string>): Promise<unknown> =>
      fixture.tamper(
        `insert into edict.received (log_id, event_id, digest, emitter, boot, number, seq)
         values (${fixture.ledger.log.id}, '${eventId}', sha256('${seq}'), '${'ab'.repeat(16)}', 1, ${seq}, ${seq})`,
      );

    await fixture.ledger.write(({ append }) => append(fixture.ledger.log, [newDecision()]));
    expect(await page()).toMatchObject({
      covered_by: null,
      not_proven: 'no checkpoint yet',
      decisions: [{ covered_by: null }],
    });
    await grow(300);
    const held = openCheckpoint(Buffer.from(await (await get('checkpoint')).text()), vkey);
    await grow(300);
    const { decisions, ...covered } = await page();
    expect(covered).toMatchObject({ covered_by: { size: '604' }, not_proven: null });
    expect(decisions[0]).toMatchObject({ covered_by: '604' });

    const id = decisions[0]!['decision_id'];
    await receive(decisions[0]!);
    const { body } = await ask(`/v1/decisions/${id}?known_size=${held!.size}`);
    const signed = openCheckpoint(Buffer.from(body['checkpoint'] as string), vkey)!;
    const leaf = leafHash(Buffer.from(body['entry_base64'] as string, 'base64'));
    expect(body['proof']).toMatchObject({ index: decisions[0]!['seq'], tree_size: '604' });
    expect(rootOfInclusion(leaf, BigInt(decisions[0]!['seq']!), signed.size, hashesIn(body['proof']))).toEqual(
      signed.root,
    );
    expect(body['consistency']).toMatchObject({ from: String(held!.size), to: '604' });
    expect(isConsistent(held!, signed, hashesIn(body['consistency']))).toBe(true);

    await fixture.ledger.write(({ append }) => append(fixture.ledger.log, [newDecision()]));
    const [newest] = (await page()).decisions;
    await receive(newest!);
    const uncovered = await ask(`/v1/decisions/${newest!['decision_id']}`);
    expect(newest).toMatchObject({ covered_by: null });
    expect(uncovered.body).toMatchObject({
      proof: null,
      consistency: null,
      not_proven: 'the newest checkpoint does not cover this entry yet',
    });
    for (const wrong of ['605', '0', '-1', '01', 'x', '1&known_size=1'])
      expect((await ask(`/v1/decisions/${id}?known_size=${wrong}`)).status).toBe(400);
    await fixture.tamper(`delete from edict.tree_node where log_id = ${fixture.ledger.log.id}`);
    expect((await ask(`/v1/decisions/${id}`)).status).toBe(500);
  });

  it('is its tenant’s auditor’s alone', async () => {
    await grow(1);
    for (const resource of ['checkpoint', 'tile/0/000.p/1', 'tile/entries/000.p/1']) {
      expect((await get(resource)).status).toBe(200);
      expect((await fetch(`${audit.url}/log/acme/0/1/${resource}`)).status).toBe(401);
      expect((await get(resource, stranger.key)).status).toBe(403);
      expect((await get(`${resource}?tenant=globex`, stranger.key)).status).toBe(403);
      expect((await get(resource, gateway.key)).status).toBe(403);
      const posted = await get(resource, auditor.key, 'POST');
      expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET']);
    }
  });

  it.each([
    '/log/acme/0/2/checkpoint',
    '/log/acme/1/1/checkpoint',
    '/log/acme/0/01/checkpoint',
    '/log/acme/x/1/checkpoint',
    '/log/acme/0/1/tile/0/x',
    '/log/acme/0/1/tile/',
    '/log/acme/0/1',
  ])('has no %s', async (resource) => {
    await grow(1);
    const response = await fetch(`${audit.url}${resource}`, { headers: { authorization: `Bearer ${auditor.key}` } });
    expect(response.status).toBe(404);
  });
});
