import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAudit, type Audit } from '../../services/audit/main.ts';
import { startSigner } from '../../services/audit/signer-main.ts';
import { fsck } from '../support/fsck.ts';
import { freePorts } from '../support/free-ports.ts';
import { parseVkey } from '../../services/shared/contracts/signatures.ts';
import { homePaths } from '../../services/shared/settings/home.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { readAckFile } from '../../services/shared/spool/ack-file.ts';
import { openSpoolWriter, type SpoolWriter } from '../../services/shared/spool/writer.ts';
import { readFileSync } from 'node:fs';
import { createEmitter, type MadeEvent } from './core/ingest-fixtures.ts';
import { silent } from './ingest/fixtures.ts';

type Body = Readonly<Record<string, unknown>>;

const until = async <T>(what: () => Promise<T> | T, isDone: (value: T) => boolean): Promise<T> => {
  for (const deadline = Date.now() + 30_000; ;) {
    const value = await what();
    if (isDone(value)) return value;
    if (Date.now() > deadline) throw new Error(`did not happen: ${JSON.stringify(value)}`);
    await sleep(50);
  }
};

describe('the audit service with embedded parts', () => {
  const home = mkdtempSync(path.join(os.tmpdir(), 'edict-audit-'));
  const { settings } = loadSettings({ environment: { EDICT_HOME: home, EDICT_AUDIT_LISTEN: '127.0.0.1:0' } });
  const emitter = createEmitter();
  let audit: Audit;
  let writer: SpoolWriter;

  const get = async (route: string): Promise<Body> => (await (await fetch(`${audit.url}${route}`)).json()) as Body;
  const decisions = async (): Promise<readonly unknown[]> =>
    ((await get('/v1/decisions?tenant=default&limit=100'))['decisions'] ?? []) as readonly unknown[];
  const append = (event: MadeEvent): void => {
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
  }, 120_000);
  afterAll(async () => {
    await audit.close();
    await writer.close();
    rmSync(home, { recursive: true, force: true });
  });

  it('is ready with ledgers of its own and says what embedded means', async () => {
    const ready = await until(
      () => get('/health/ready'),
      ({ status }) => status === 'ok',
    );
    expect(JSON.stringify(ready)).toContain('role separation is void');
    expect(ready).toMatchObject({
      checks: { ledger: { facts: { ledgers: 2 } }, source: { facts: { source: 'spool' } } },
    });
  });

  it('takes what the spool holds and acknowledges it once it is flushed', async () => {
    for (let n = 0; n < 20; n += 1) append(emitter.event('default'));
    expect(await until(decisions, (found) => found.length === 20)).toHaveLength(20);
    const vkey = parseVkey(readFileSync(homePaths(home).ackVkey, 'utf8'));
    const acks = await until(
      () => readAckFile(home, emitter.id, [vkey])?.acks ?? [],
      ([ack]) => ack?.covered_to === '20',
    );
    expect(acks).toMatchObject([{ tenant: 'default', boot: '1', complete_to: '20', holes: [] }]);
    expect(Number(acks[0]?.tree_size)).toBeGreaterThanOrEqual(21);
  }, 60_000);

  it('has its logs signed by a signer that works through it', async () => {
    const [port] = await freePorts(1);
    const signer = await startSigner(
      { ...settings, signer: { ...settings.signer, interval: '100ms', listen: `127.0.0.1:${port}` } },
      { logger: silent },
    );
    const facts = { logs: 2, signed: 2 };
    try {
      await until(
        () => get('/health/ready'),
        (ready) => JSON.stringify(ready).includes('"logs":2,"signed":2'),
      );
      expect(await get('/health/ready')).toMatchObject({ checks: { checkpoints: { ok: true, facts } } });
      await until(
        async () => (await fetch(`${signer.url}/health/ready`)).json() as Promise<{ readonly status: string }>,
        ({ status }) => status === 'ok',
      );
      expect(await (await fetch(`${signer.url}/metrics`)).text()).toMatch(
        /edict_signer_checkpoints_total\{[^}]*\} [2-9]/,
      );
      for (const [log, key] of [
        ['default/0/1', 'default-1'],
        ['edict/0/1', 'edict-1'],
        ['-/meta/1', '@meta-1'],
      ] as const)
        expect(
          await fsck(`${audit.url}/log/${log}`, path.join(homePaths(home).ledgerKeys, `${key}.vkey`)),
        ).toMatchObject({ code: 0 });
    } finally {
      await signer.close();
    }
  }, 60_000);

  it('continues the same ledger after a restart', async () => {
    await audit.close();
    for (let n = 0; n < 5; n += 1) append(emitter.event('default'));
    audit = await startAudit(settings, { logger: silent });
    expect(await until(decisions, (found) => found.length === 25)).toHaveLength(25);
  }, 90_000);

  it('closes an emitter when an operator says so', async () => {
    const retired = await fetch(`${audit.url}/v1/emitters/${emitter.id}/retire?tenant=edict`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    expect(await retired.json()).toEqual({
      retired: { emitter: emitter.id, tenants: ['edict', 'default'], streams: 1 },
    });
    expect(await get('/v1/emitters?tenant=default')).toMatchObject({
      emitters: [{ emitter: emitter.id, retired: true }],
    });
    const unknown = await fetch(`${audit.url}/v1/emitters/${'0'.repeat(32)}/retire?tenant=edict`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    expect(unknown.status).toBe(404);
  });

  it('counts what it did', async () => {
    const metrics = await (await fetch(`${audit.url}/metrics?tenant=edict`)).text();
    expect(metrics).toMatch(/edict_ledger_entries_total\{[^}]*kind="decision"[^}]*\} 5/);
    expect(metrics).toContain('edict_ingest_batch_seconds_count');
    expect(metrics).toContain('edict_source_lag_messages');
  });
});
