/** An erasure as an operator does it: the service with embedded parts, its signer, and the command line. */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAudit, type Audit } from '../../../services/audit/main.ts';
import { startSigner } from '../../../services/audit/signer-main.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { openSpoolWriter, type SpoolWriter } from '../../../services/shared/spool/writer.ts';
import { runEdict } from '../../support/edict-process.ts';
import { createEmitter } from '../core/ingest-fixtures.ts';
import { silent } from '../ingest/fixtures.ts';

type Body = Readonly<Record<string, unknown>>;

describe('an erasure on one machine', () => {
  const home = mkdtempSync(path.join(os.tmpdir(), 'edict-erasure-'));
  const { settings } = loadSettings({
    environment: { EDICT_HOME: home, EDICT_AUDIT_LISTEN: '127.0.0.1:0', EDICT_AUDIT_SEAL_INTERVAL: '100ms' },
  });
  const subjects = path.join(homePaths(home).subjectKeys, 'subjects');
  const copy = path.join(home, 'copy');
  const emitter = createEmitter();
  let audit: Audit;
  let writer: SpoolWriter;
  let signer: Awaited<ReturnType<typeof startSigner>>;

  const get = async (route: string): Promise<Body> => (await (await fetch(`${audit.url}${route}`)).json()) as Body;
  const until = async <T>(what: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> => {
    for (const deadline = Date.now() + 30_000; ;) {
      const value = await what();
      if (isDone(value)) return value;
      if (Date.now() > deadline) throw new Error(`did not happen: ${JSON.stringify(value)}`);
      await sleep(50);
    }
  };
  const append = (person: string): void => {
    const event = emitter.event('default', {
      data: {
        input: {
          subject: { type: 'user', id: person, properties: {}, verified: false },
          action: { name: 'read' },
          resource: { type: 'dataset', id: 'hr.salaries' },
          context: {},
        },
      },
    });
    writer.append({
      tenant: event.tenant,
      boot: BigInt(event.boot),
      sequence: BigInt(event.sequence),
      reserve: false,
      event: event.bytes.toString(),
      eventBytes: event.bytes.length,
      digest: '0'.repeat(64),
    });
  };
  const people = async (): Promise<readonly string[]> =>
    ((await get('/v1/decisions?tenant=default&limit=100'))['decisions'] as readonly { subject?: { id: string } }[]).map(
      ({ subject }) => subject?.id ?? '',
    );
  const erase = async (command: string, ...args: readonly string[]): Promise<Body> => {
    const { code, stdout, stderr } = await runEdict(['audit', 'erase', command, '--url', audit.url, '--json', ...args]);
    if (code !== 0) throw new Error(`${code}: ${stderr}`);
    return (JSON.parse(stdout) as { erasure: Body }).erasure;
  };

  beforeAll(async () => {
    const directory = path.join(homePaths(home).emitters, '0', 'spool');
    mkdirSync(directory, { recursive: true });
    writer = openSpoolWriter({
      directory,
      emitter: emitter.id,
      limits: {
        segmentBytes: 1024 * 1024,
        maxBytes: 16 * 1024 * 1024,
        reserveBytes: 1024 * 1024,
        quotaBytes: () => 8 * 1024 * 1024,
        syncMs: 1,
      },
      nowMs: Date.now,
      onFailure: () => undefined,
    });
    audit = await startAudit(settings, { logger: silent });
    signer = await startSigner({ ...settings, signer: { ...settings.signer, interval: '100ms' } }, { logger: silent });
    for (const person of ['alice', 'bob', 'alice']) append(person);
    await until(people, ({ length }) => length === 3);
    cpSync(subjects, copy, { recursive: true });
  }, 120_000);
  afterAll(async () => {
    await signer.close();
    await audit.close();
    await writer.close();
    rmSync(home, { recursive: true, force: true });
  });

  it('is asked for, approved by two, and done once the signer signed it', async () => {
    const what = ['--subject', 'alice', '--reference', 'ticket 7', '--legal-basis', 'GDPR, article 17'];
    const { id } = await erase('request', ...what, '--as', 'ann');
    expect(await erase('approve', String(id), '--as', 'ann')).toMatchObject({ state: 'pending' });
    const twice = await runEdict(['audit', 'erase', 'approve', String(id), '--url', audit.url, '--as', 'ann']);
    expect([twice.code, twice.stderr]).toEqual([2, expect.stringContaining('somebody else’s')]);
    expect(await erase('approve', String(id), '--as', 'ben')).toMatchObject({ authenticated: false });
    const done = await until(
      () => erase('status', String(id)),
      ({ state }) => state === 'done',
    );
    expect(done).toMatchObject({ erased: '2', subject: null, approvals: [{ by: 'ann (unauthenticated)' }, {}] });
    expect(await people()).toEqual(['bob']);
  }, 60_000);

  it('stays, also when the service starts again with the keys of a copy and events of the erased person come', async () => {
    await audit.close();
    cpSync(copy, subjects, { recursive: true });
    audit = await startAudit(settings, { logger: silent });
    for (const person of ['alice', 'bob']) append(person);
    expect(await until(people, ({ length }) => length >= 2)).toEqual(['bob', 'bob']);
    const { code, stdout } = await runEdict(['audit', 'verify', '--url', audit.url, '--json']);
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { reports: [{ findings: [] }] }]);
    const list = await runEdict(['audit', 'erase', 'list', '--url', audit.url]);
    expect(list.stdout).toMatch(/done +\(removed\) +ann \(unauthenticated\), ben/);
  }, 60_000);

  it.each([
    ['a subject and entries', { subject: { type: 'user', id: 'x' }, seqs: ['1'] }],
    ['nobody', {}],
    ['the ledger itself', { subject: { type: 'edict.tenant', id: 'default' } }],
    ['an unknown member', { subject: { type: 'user', id: 'x', name: 'X' } }],
    ['an issuer that no column holds', { subject: { issuer: 'a\0', type: 'user', id: 'x' } }],
    ['a subject that is no text', { subject: { type: 'user', id: '\ud800' } }],
    ['a copy that is no text', { subject: { type: 'user', id: 'x' }, copies: ['\udc00'] }],
    ['an entry that is none', { seqs: ['-1'] }],
    ['an entry that names nobody', { seqs: ['0'] }],
  ])('refuses %s', async (_name, members) => {
    const answer = await fetch(`${audit.url}/v1/erasures`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ reference: 't', legal_basis: 'l', as: 'ann', ...members }),
    });
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'request_invalid' }]);
  });
});
