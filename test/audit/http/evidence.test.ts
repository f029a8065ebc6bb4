import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { formatVkey, signingKeyFromPem } from '../../../services/shared/contracts/signatures.ts';
import { freshIds, ownEntry } from '../../../services/audit/core/own-entry.ts';
import { membersOf, openBundle, statusesOf } from '../core/evidence-bundle.ts';
import { fillEvidence, openEvidenceFixture, type EvidenceFixture } from './evidence-fixture.ts';
import { erasure } from '../core/verify-log.ts';
import { decisionMembers, ledgerKeys, openLedger } from './ledger-fixture.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const RANGE = {
  authenticity: 'ok',
  append_only: 'ok',
  integrity: 'ok',
  projection: 'not_checked',
  completeness: 'ok',
  lifecycle: 'ok',
  freshness: 'not_checked',
  clock: 'ok',
};

describe('an evidence bundle', () => {
  let fixture: EvidenceFixture;
  let times: readonly string[];
  const origin = 'audit.example.com/umbrella/0/1';

  beforeAll(async () => {
    fixture = await openEvidenceFixture();
  });
  afterAll(() => fixture.close());

  it('is refused while there is no checkpoint, and nothing is written of it', async () => {
    const { status, bytes } = await fixture.get('format=bundle');
    expect([status, bytes.toString()]).toEqual([404, expect.stringContaining('no checkpoint yet')]);
    times = await fillEvidence(fixture);
  });

  it('of everything proves itself with the log’s key, and only with it', async () => {
    const { status, headers, trailers, bytes } = await fixture.get('format=bundle');
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('application/x-tar');
    expect(headers['content-disposition']).toBe('attachment; filename="decisions-umbrella.tar"');
    const good = await fixture.verify(bytes);
    expect(statusesOf(good)).toEqual(RANGE);
    expect(good.report.verdicts.completeness.note).toMatch(
      /^everything that the ledger took in from \S+ to \S+ is here/,
    );
    expect(statusesOf(await fixture.verify(bytes, false))).toEqual({ ...RANGE, authenticity: 'not_checked' });
    // Incarnation, 3 + 300 + 3 events, three seals; what no checkpoint covers is not there.
    const bundle = openBundle(bytes);
    expect(bundle.members.map(({ name }) => name)).toEqual([
      'README.md',
      'about.json',
      'keys/log.vkey',
      'checkpoint',
      'entries/00000001.ndjson',
      'manifest.json',
    ]);
    expect(bundle.about()).toMatchObject({
      scope: 'range',
      tenant: 'umbrella',
      origin,
      by: 'development',
      filter: {},
      access: { log: origin, begun: '311' },
      size: '310',
      start: { size: '0', subtrees: [], checkpoint: null },
    });
    expect(bundle.manifest()).toMatchObject({
      counts: { entries: '310', payloads: '310', gone: '0', checkpoints: '3' },
      policies: [{ set: `sha256:${sha256(Buffer.from('set'))}`, decisions: '305', bundles: [] }],
    });
    expect(trailers).toMatchObject({ 'edict-export-rows': '310', 'edict-export-sha256': sha256(bytes) });
    expect(trailers['edict-export-entry']).toBe(`${origin} 312`);
  });

  it('of a time holds all that was taken in then, from one checkpoint to another', async () => {
    const { bytes } = await fixture.get(`format=bundle&from=${times[1]}&to=${times[2]}`);
    const bundle = openBundle(bytes);
    // It begins one checkpoint earlier: its first entry is older than what was asked for, so nothing was left out.
    expect(bundle.about()).toMatchObject({ start: { size: '5' }, size: '310' });
    expect((bundle.about()['start'] as { subtrees: readonly string[] }).subtrees).toHaveLength(2);
    expect(bundle.lines()[0]).toMatchObject({ seq: '5' });
    const report = await fixture.verify(bytes);
    expect(statusesOf(report)).toEqual(RANGE);
    expect(report.report.verdicts.completeness.note).toContain(
      'numbers of emitters are followed in bundles from entry 0',
    );
    const early = openBundle((await fixture.get(`format=bundle&to=${times[0]}`)).bytes);
    expect(early.about()).toMatchObject({ start: { size: '0' }, size: '306' });
    const late = await fixture.verify(
      (await fixture.get(`format=bundle&from=${times[2]}&to=2999-01-01T00:00:00Z`)).bytes,
    );
    expect(statusesOf(late)).toEqual(RANGE);
    expect(late.report.verdicts.completeness.note).toContain('no checkpoint reached 2999-01-01T00:00:00.000Z');
    const { status, bytes: problem } = await fixture.get(`format=bundle&from=${times[2]}&to=${times[0]}`);
    expect([status, problem.toString()]).toEqual([400, expect.stringContaining('to: is before from')]);
  });

  it('of a filter proves each decision by itself, and says that it cannot prove more', async () => {
    const { bytes, trailers } = await fixture.get('format=bundle&subject=alice&decision=deny&agent=planner');
    expect(trailers['edict-export-rows']).toBe('2');
    const report = await fixture.verify(bytes);
    expect(statusesOf(report)).toEqual({ ...RANGE, projection: 'ok', completeness: 'not_checked' });
    expect(report.report.verdicts.append_only.checked).toEqual({ proofs: 2 });
    const lines = openBundle(bytes).lines() as { seq: string; proof: readonly string[] }[];
    expect(lines.map(({ seq, proof }) => [seq, proof.length])).toEqual([
      ['3', 9],
      ['306', 6],
    ]);
    const none = await fixture.get('format=bundle&subject=nobody');
    expect(statusesOf(await fixture.verify(none.bytes))).toEqual(statusesOf(report));
  });

  it('begins with one entry and ends with another, which name its bytes', async () => {
    await fixture.sign();
    const { bytes } = await fixture.get('format=bundle');
    const said = openBundle(bytes)
      .lines()
      .map(({ payload }) => JSON.parse(Buffer.from(String(payload), 'base64').toString()) as Record<string, unknown>)
      .filter(({ access }) => access === 'export');
    expect(said).toContainEqual(
      expect.objectContaining({
        state: 'begun',
        by: 'development',
        format: 'bundle',
        filter: { subject: 'alice', subject_type: 'user', decision: 'deny', agent: 'planner' },
        as_of: { log: origin, size: '310' },
      }),
    );
    expect(said).toContainEqual(
      expect.objectContaining({
        state: 'complete',
        rows: '2',
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown,
      }),
    );
    expect(statusesOf(await fixture.verify(bytes))).toEqual(RANGE);
  });

  it('shows a match that the service hides: a range does not ask the search table', async () => {
    const found = async (query: string) => (await fixture.get(`format=bundle&${query}`)).trailers['edict-export-rows'];
    expect(await found('subject=bob')).toBe('1');
    await fixture.tamper(`delete from edict.decision where log_id = ${fixture.log.id} and seq = 2`);
    const hidden = await fixture.get('format=bundle&subject=bob');
    expect(openBundle((await fixture.get('format=bundle')).bytes).lines()[2]).toMatchObject({ seq: '2' });
    expect(hidden.trailers['edict-export-rows']).toBe('0');
    expect(statusesOf(await fixture.verify(hidden.bytes))['completeness']).toBe('not_checked');

    await fixture.feeder.store([fixture.decision('mallory', 'deny')]);
    await fixture.tamper(`delete from edict.decision where log_id = ${fixture.log.id} and seq > 310`);
    await fixture.sign();
    const report = await fixture.verify((await fixture.get('format=bundle')).bytes);
    expect(statusesOf(report)).toEqual({ ...RANGE, completeness: 'failed' });
    expect(report.report.verdicts.completeness.firstBad?.attack).toBe('seal_wrong');
  });

  it('tells a payload that was taken away from one that an erasure entry names', async () => {
    const { database, log, sign, tamper, verify, get } = fixture;
    await tamper(`delete from edict.payload where log_id = ${log.id} and seq in (1, 100)`);
    const taken = await verify((await get('format=bundle')).bytes);
    expect(taken.manifest?.counts).toMatchObject({ gone: '2' });
    expect(taken.report.verdicts.lifecycle).toMatchObject({
      status: 'failed',
      checked: { payloads_gone: 2 },
      firstBad: { seq: '1', attack: 'payload_removed' },
    });
    const later = await verify((await get(`format=bundle&from=${times[1]}`)).bytes);
    expect(later.report.verdicts.lifecycle).toMatchObject({
      status: 'not_checked',
      note: expect.stringContaining('1 payloads are gone') as unknown,
    });
    const erase = async (document: Readonly<Record<string, unknown>>) => {
      await openLedger(database).write(({ append }) =>
        append(log, [ownEntry('umbrella', 'erasure', document, freshIds())]),
      );
      await sign();
      return (await verify((await get('format=bundle')).bytes)).report.verdicts.lifecycle;
    };
    const ranges = [
      ['100', '100'],
      ['1', '1'],
    ];
    // Naming it is not enough: two must have approved a request.
    expect(await erase({ ranges })).toMatchObject({ status: 'failed', firstBad: { seq: '1' } });
    expect(await erase(erasure(ranges, { approvers: ['ann', 'ann'] }))).toMatchObject({ status: 'failed' });
    expect(await erase(erasure(ranges))).toMatchObject({ status: 'ok', checked: { payloads_gone: 2 } });
    await tamper(`update edict.payload set ciphertext = set_byte(ciphertext, 60, get_byte(ciphertext, 60) # 1)
                  where log_id = ${log.id} and seq = 3`);
    const edited = await verify((await get('format=bundle')).bytes);
    expect(edited.report.verdicts.integrity.firstBad).toMatchObject({ seq: '3', attack: 'payload_edited' });
  });

  it('names the newest checkpoint in other formats too: in each row the size of the one that covers it', async () => {
    const rows = async () =>
      (await fixture.get('format=ndjson&decision=deny')).bytes
        .toString()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { seq: string; covered_by: string | null });
    const [newest] = await fixture.database.query<{ size: bigint }>(
      'select max(size) as size from edict.checkpoint where log_id = $1::int',
      [fixture.log.id],
    );
    await fixture.feeder.store([fixture.decision('dave', 'deny')]);
    const found = await rows();
    expect(found.length).toBeGreaterThan(2);
    for (const { seq, covered_by: covered } of found)
      expect(covered).toBe(BigInt(seq) < (newest?.size ?? 0n) ? String(newest?.size) : null);
    expect(found.at(-1)?.covered_by).toBeNull();
    await fixture.sign();
    expect((await rows()).map(({ covered_by: covered }) => covered)).not.toContain(null);
  });

  it('of many bytes has several members of entries', async () => {
    const { feeder, sign, get, verify } = fixture;
    const from = new Date().toISOString();
    const large = (text: string) =>
      feeder.decision(decisionMembers('alice', 'read', 'allow', { context: { args: { text: text.repeat(800_000) } } }));
    await feeder.store([large('x'), large('y'), large('z')]);
    await sign();
    const { bytes } = await get(`format=bundle&from=${from}`);
    expect(membersOf(bytes).map(({ name }) => name)).toContain('entries/00000003.ndjson');
    expect(statusesOf(await verify(bytes))).toEqual(RANGE);
  });

  it('of an earlier incarnation is asked for by its number', async () => {
    const { database, folder, sign, get, verify, log } = fixture;
    await createLedger({
      write: openLedger(database).write,
      tenant: 'umbrella',
      authority: 'audit.example.com',
      keyFile: (tenant, incarnation) => path.join(folder, `${tenant}-${incarnation}.pem`),
      nowUs: () => BigInt(Date.now()) * 1000n,
      newIncarnation: true,
    });
    for (const [query, status] of [
      ['', 404],
      ['&incarnation=3', 404],
      ['&incarnation=0', 400],
    ] as const)
      expect([query, (await get(`format=bundle${query}`)).status]).toEqual([query, status]);
    expect((await get('format=csv&incarnation=1')).status).toBe(400);
    ledgerKeys.set('umbrella', readFileSync(path.join(folder, 'umbrella-2.pem'), 'utf8'));
    await sign();
    const newest = openBundle((await get('format=bundle')).bytes);
    const key = signingKeyFromPem(readFileSync(path.join(folder, 'umbrella-2.pem'), 'utf8'));
    expect(newest.of('keys/log.vkey').bytes.toString()).toBe(
      `${formatVkey(`${origin.slice(0, -1)}2`, key.publicKey)}\n`,
    );
    expect(statusesOf(await verify(newest.bytes(), false))).toEqual({ ...RANGE, authenticity: 'not_checked' });
    // The auditor holds the key of the first: it says nothing about the second.
    expect(statusesOf(await verify(newest.bytes()))['authenticity']).toBe('failed');
    const first = openBundle((await get('format=bundle&incarnation=1&action=read&decision=allow')).bytes);
    expect(first.about()).toMatchObject({ origin: log.origin, access: { log: `${origin.slice(0, -1)}2` } });
    expect(statusesOf(await verify(first.bytes()))).toMatchObject({ authenticity: 'ok', append_only: 'ok' });
  });
});
