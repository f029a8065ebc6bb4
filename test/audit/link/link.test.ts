import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { SignerStore } from '../../../services/audit/core/meta-log.ts';
import { createLinkedStore } from '../../../services/audit/link/client.ts';
import { startSignerLink } from '../../../services/audit/link/server.ts';
import { AppError } from '../../../services/shared/contracts/errors.ts';
import type { Handle } from '../../../services/shared/runtime/lifecycle.ts';
import { silent } from '../ingest/fixtures.ts';

const log = {
  id: 1,
  tenant: 'acme',
  origin: 'local/acme/0/1',
  incarnation: 1,
  vkey: 'v',
  genesis: { origin: 'local/acme/0/1', vkey: 'v' },
  head: { size: 2n ** 60n, leaf: Buffer.alloc(32, 1) },
  sealedSize: 2n,
};
const row = {
  seq: 1n,
  segment: 0,
  header: Buffer.alloc(200, 2),
  leaf: Buffer.alloc(32, 3),
  payload: { state: 'opened', salt: Buffer.alloc(32), contentType: 'x', payload: Buffer.from('ä') },
} as const;
const checkpoint = { size: 2n, root: Buffer.alloc(32, 4), note: Buffer.from('note'), nodes: [], signedUs: 5n };

describe('the link between the embedded audit service and its signer', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-link-'));
  const file = path.join(folder, 'link.json');
  const called: unknown[] = [];
  const named = { logId: 1, tenant: 'acme', incarnation: 1, origin: 'test.example/acme/0/1' };
  const store: SignerStore = {
    logs: () => Promise.resolve([log]),
    rows: (...given) => {
      called.push(given);
      return Promise.resolve([row]);
    },
    store: (...given) => {
      called.push(given);
      return Promise.resolve();
    },
    raise: () => Promise.reject(new AppError('database_unavailable', 'away')),
    metaLog: () => Promise.resolve(undefined),
    unlisted: (isThorough) => Promise.resolve([{ ...named, size: isThorough ? 2n : 3n, note: log.head.leaf }]),
    list: (...given) => {
      called.push(given);
      return Promise.resolve();
    },
    leaves: (_incarnation, index) => Promise.resolve([{ ...named, index, entry: row.leaf, size: 2n }]),
    storeMeta: (...given) => {
      called.push(given);
      return Promise.resolve();
    },
    metaHashes: (_incarnation, level) => Promise.resolve([Buffer.alloc(32, level)]),
    attest: (...given) => {
      called.push(given);
      return Promise.resolve();
    },
  };
  let link: Handle;
  beforeAll(async () => {
    link = await startSignerLink({ store, file, logger: silent });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('carries bytes and numbers as they are, both ways', async () => {
    const linked = createLinkedStore(file);
    expect(await linked.logs()).toEqual([log]);
    expect(await linked.rows(log, 1n, 2n)).toEqual([row]);
    await linked.store(1, checkpoint);
    expect(called).toEqual([
      [log, 1n, 2n],
      [1, checkpoint],
    ]);
    called.splice(0);
    const leaf = { logId: 1, size: 2n, entry: row.leaf };
    expect(await linked.metaLog()).toBeUndefined();
    expect(await linked.unlisted(true)).toEqual([{ ...named, size: 2n, note: log.head.leaf }]);
    await linked.list(1, [leaf]);
    expect(await linked.leaves(1, 7n, 9n)).toEqual([{ ...named, ...leaf, index: 7n }]);
    await linked.storeMeta(1, checkpoint);
    const attestation = { kind: 'cosignature', source: 'w', timeMs: 1, bytes: row.leaf, storedUs: 2n } as const;
    await linked.attest(1, 2n, attestation);
    expect(await linked.metaHashes(1, 2, 0n, 1)).toEqual([Buffer.alloc(32, 2)]);
    expect(called).toEqual([
      [1, [leaf]],
      [1, checkpoint],
      [1, 2n, attestation],
    ]);
  });

  it('says what failed on the other side', async () => {
    const alarm = { alarm: 'log_rewound', what: '', expected: '', actual: '', signedSize: 1n, raisedUs: 0n } as const;
    await expect(createLinkedStore(file).raise(1, alarm)).rejects.toMatchObject({
      code: 'upstream_unavailable',
      message: expect.stringContaining('away') as string,
    });
  });

  it('answers nobody who did not read the file, which only its owner may', async () => {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { url, token } = JSON.parse(readFileSync(file, 'utf8')) as { url: string; token: string };
    const ask = async (call: string, authorization?: string, method = 'POST'): Promise<number> =>
      (await fetch(`${url}/${call}`, { method, headers: authorization === undefined ? {} : { authorization } })).status;
    expect(await ask('logs')).toBe(401);
    expect(await ask('logs', `Bearer ${'0'.repeat(64)}`)).toBe(401);
    expect(await ask('constructor', `Bearer ${token}`)).toBe(404);
    expect(await ask('logs', `Bearer ${token}`, 'GET')).toBe(404);
  });

  it('is gone with the audit service', async () => {
    await link.close();
    await expect(createLinkedStore(file).logs()).rejects.toMatchObject({ code: 'upstream_unavailable' });
  });
});
