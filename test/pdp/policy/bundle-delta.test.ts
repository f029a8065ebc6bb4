import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { packArchive } from '../../../services/shared/bundles/pack-archive.ts';
import { startActivePolicy, type ActivePolicy } from '../../../services/pdp/policy/active-policy.ts';
import type { PolicyActivation } from '../../../services/pdp/policy/active-set.ts';
import { BUNDLE_LIMITS } from '../../../services/shared/bundles/bundle-archive.ts';
import { applyDelta } from '../../../services/pdp/policy/bundle-delta.ts';
import { readBundle, type Bundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { signFiles, type SigningRequirement } from '../../../services/pdp/policy/bundle-signature.ts';
import { createBundleStore } from '../../../services/pdp/policy/bundle-store.ts';
import { bundleDigest, digestText, type BundleFile } from '../../../services/shared/contracts/bundle-digest.ts';
import { startBundleServer, type BundleServerFixture } from './bundle-server.ts';
import { inputFor, makeBundle } from './make-bundles.ts';

const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": true, "reasons": [{"code": code}], "obligations": [], "advice": [], "legs": {"subject": true}}

code := concat("", ["n", format_int(data.mesh.n, 10)])
`;
const DATA = { mesh: { n: 1, users: { bob: [1, 2, 3] }, 'a/b': 1, 'x y': 1 }, deep: { own: { v: 1 } } };

let base: Bundle;
let baseArchive: Uint8Array;
beforeAll(async () => {
  baseArchive = await makeBundle({ rego: REGO, data: DATA, roots: ['edict', 'mesh', 'deep/own'] });
  base = await readBundle(baseArchive);
});

interface Recipe {
  readonly to?: Bundle;
  readonly serial?: number;
  readonly manifest?: object;
  readonly edict?: object;
  readonly more?: readonly BundleFile[];
  readonly patch?: string;
}

const filesOf = (data: unknown, recipe: Recipe = {}): readonly BundleFile[] => {
  const { to = base, serial = 2 } = recipe;
  const manifest = {
    ...to.manifest,
    metadata: { edict: { name: to.name, serial, base: to.digest, ...recipe.edict } },
    ...recipe.manifest,
  };
  return [
    { path: '.manifest', bytes: Buffer.from(JSON.stringify(manifest)) },
    { path: 'patch.json', bytes: Buffer.from(recipe.patch ?? JSON.stringify({ data })) },
    ...(recipe.more ?? []),
  ];
};
const deltaOf = (data: unknown, recipe: Recipe = {}): Promise<Uint8Array> => packArchive(filesOf(data, recipe));
const dataOf = ({ dataJson }: Bundle): typeof DATA => JSON.parse(Buffer.from(dataJson).toString()) as typeof DATA;
const upsert = (at: string, value: unknown) => ({ op: 'upsert', path: at, value });

describe('a delta of a bundle', () => {
  it('makes a whole bundle of its base, with a digest as any', async () => {
    const operations = [
      upsert('/mesh/n', 2),
      upsert('mesh/made/on/the/way', { x: null }),
      upsert('/mesh/users/bob/-', 4),
      upsert('/mesh/users/bob/0', 0),
      { op: 'replace', path: '/mesh/users/bob/1', value: 'one' },
      { op: 'remove', path: '/mesh/users/bob/2' },
      { op: 'replace', path: '/mesh/a~1b', value: 2 },
      { op: 'remove', path: '/mesh/x%20y/' },
      upsert('/deep/own', { v: 2 }),
    ];
    const bundle = await applyDelta(base, await deltaOf(operations), BUNDLE_LIMITS);
    expect(dataOf(bundle)).toEqual({
      mesh: { n: 2, users: { bob: [0, 'one', 3, 4] }, 'a/b': 2, made: { on: { the: { way: { x: null } } } } },
      deep: { own: { v: 2 } },
    });
    expect(bundle).toMatchObject({ name: 'test', serial: 2, wasm: base.wasm, signature: undefined });
    expect(bundle.digest).toBe(digestText(bundleDigest(bundle.files)));
    expect((await readBundle(await packArchive(bundle.files))).digest).toBe(bundle.digest);
    expect(dataOf(base)).toEqual(DATA);
  });

  it('keeps numbers as they were written', async () => {
    const patch = '{"data": [{"op": "upsert", "path": "/mesh/big", "value": [12345678901234567890, 1.10, 1e400]}]}';
    const bundle = await applyDelta(base, await deltaOf(undefined, { patch }), BUNDLE_LIMITS);
    expect(Buffer.from(bundle.dataJson).toString()).toContain('"big":[12345678901234567890,1.10,1e400]');
  });

  it('is refused unless it is signed as its source demands', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const key = { id: 'ci', algorithm: 'EdDSA' as const, key: publicKey, scope: undefined };
    const signing: SigningRequirement = { keys: new Map([['ci', key]]), keyId: 'ci', scope: undefined };
    const files = filesOf([upsert('/mesh/n', 2)]);
    const signature = signFiles(files, { keyId: 'ci', algorithm: 'EdDSA', key: privateKey });
    const signed = await packArchive([...files, signature]);
    const bundle = await applyDelta(base, signed, BUNDLE_LIMITS, signing);
    expect(bundle.signature).toMatchObject({ key: 'ci' });
    expect(bundle.files.some((file) => file.path === '.signatures.json')).toBe(false);
    await expect(applyDelta(base, await packArchive(files), BUNDLE_LIMITS, signing)).rejects.toThrow('must be signed');
    const changed = await packArchive([...filesOf([upsert('/mesh/n', 3)]), signature]);
    await expect(applyDelta(base, changed, BUNDLE_LIMITS, signing)).rejects.toThrow('not the file that was signed');
  });

  const good = [upsert('/mesh/n', 2)];
  it.each<[string, unknown, Recipe, string]>([
    ['without a base', good, { edict: { base: undefined } }, 'no metadata.edict.base'],
    ['for another version', good, { edict: { base: `sha256:${'0'.repeat(64)}` } }, 'and here is'],
    ['for another bundle', good, { edict: { name: 'other' } }, 'not for test'],
    ['with other roots', good, { manifest: { roots: ['edict', 'mesh', 'deep'] } }, 'roots are not those'],
    [
      'with other modules',
      good,
      { manifest: { wasm: [{ entrypoint: 'edict/x', module: '/x.wasm' }] } },
      'Wasm modules',
    ],
    ['with policies', good, { more: [{ path: 'a.rego', bytes: Buffer.from('package a') }] }, 'delta has a.rego'],
    ['with limits of its own', good, { edict: { limits: { fuel: 1_000 } } }, 'limits are not those'],
    ['outside the roots', [upsert('/other/n', 2)], {}, 'do not permit a change at /other/n'],
    ['above a root', [upsert('/deep', {})], {}, 'do not permit a change at /deep'],
    ['of everything', [upsert('/', {})], {}, 'no path below data'],
    ['with a bad escape', [upsert('/mesh/%zz', {})], {}, 'no path below data'],
    ['that replaces nothing', [{ op: 'replace', path: '/mesh/m', value: 1 }], {}, 'does not exist'],
    ['that removes nothing', [{ op: 'remove', path: '/mesh/users/bob/3' }], {}, 'does not exist'],
    ['through a number', [upsert('/mesh/n/x/y', 1)], {}, 'does not exist'],
    ['into a number', [upsert('/mesh/n/x', 1)], {}, 'neither object nor array'],
    ['without a value', [{ op: 'upsert', path: '/mesh/n' }], {}, 'has no value'],
    ['with another operation', [{ op: 'add', path: '/mesh/n', value: 1 }], {}, 'none of upsert'],
    ['of nothing', [], {}, 'no list'],
    ['that is no JSON', good, { patch: '{"data": [' }, 'patch.json is not UTF-8 JSON'],
  ])('is refused %s', async (_what, data, recipe, message) => {
    const refused = applyDelta(base, await deltaOf(data, recipe), BUNDLE_LIMITS);
    await expect(refused).rejects.toMatchObject({
      code: 'bundle_invalid',
      message: expect.stringContaining(message) as string,
    });
  });
});

describe('a server that sends deltas', () => {
  let folder: string;
  let server: BundleServerFixture;
  const open: ActivePolicy[] = [];
  const activations: PolicyActivation[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'edict-delta-'));
    server = await startBundleServer();
    server.publish(baseArchive);
    activations.length = 0;
  });
  afterEach(async () => {
    for (const policy of open.splice(0)) await policy.close();
    await server.close();
    await rm(folder, { recursive: true, force: true });
  });

  const start = async (): Promise<ActivePolicy> => {
    const http = {
      url: server.url,
      bearerTokenFile: undefined,
      tls: {},
      followRedirects: false,
      timeoutMs: 2_000,
      maxBytes: 1024 * 1024,
      pollMs: 40,
      longPollMs: undefined,
    };
    const policy = await startActivePolicy({
      bundles: [{ http }],
      pollMs: 20,
      nowMs: Date.now,
      storeOf: () => createBundleStore(path.join(folder, 'kept')),
      onActivated: (activation) => activations.push(activation),
    });
    open.push(policy);
    return policy;
  };
  const code = (policy: ActivePolicy): string | undefined => {
    const result = policy.current('acme')?.evaluate(JSON.stringify(inputFor()), 1_767_225_600_000);
    return result?.outcome === 'answer' ? result.value.reasons[0]?.code : undefined;
  };
  const until = async (policy: ActivePolicy, wanted: string): Promise<void> => {
    while (code(policy) !== wanted) await delay(10);
  };

  it('gets one set after another, each named by its digest, and they are kept', async () => {
    const policy = await start();
    expect(code(policy)).toBe('n1');
    const one = await deltaOf([upsert('/mesh/n', 2)]);
    server.publish(one);
    await until(policy, 'n2');
    const second = await applyDelta(base, one, BUNDLE_LIMITS);
    server.publish(await deltaOf([upsert('/mesh/n', 3)], { to: second, serial: 3 }));
    await until(policy, 'n3');
    expect(server.seen[0]?.prefer).toBe('modes=snapshot');
    expect(server.seen.at(-1)?.prefer).toBe('modes=snapshot,delta');
    expect(policy.status()[0]?.remotes[0]?.deltas).toBe(2);
    expect(activations.map(({ snapshot }) => snapshot.bundles[0]?.serial)).toEqual([1, 2, 3]);
    expect(activations[1]?.snapshot.bundles[0]?.digest).toBe(second.digest);
    const third = policy.current('acme')?.setDigest;
    await policy.close();
    // Without its server the same set decides.
    server.instead((_request, response) => response.writeHead(503).end());
    const again = await start();
    expect(code(again)).toBe('n3');
    expect(again.current('acme')?.setDigest).toBe(third);
    server.instead(undefined);
    server.publish(await makeBundle({ rego: REGO, data: { ...DATA, mesh: { ...DATA.mesh, n: 9 } }, serial: 9 }));
    await until(again, 'n9');
    expect(again.status()[0]?.remotes[0]?.deltas).toBe(0);
  }, 30_000);

  it('is asked for the whole bundle when a delta cannot be used, and the old set decides until then', async () => {
    const policy = await start();
    const stray = await deltaOf([upsert('/mesh/n', 7)], { edict: { base: `sha256:${'1'.repeat(64)}` } });
    const whole = await makeBundle({ rego: REGO, data: { ...DATA, mesh: { ...DATA.mesh, n: 8 } }, serial: 8 });
    let release = (): void => undefined;
    server.instead((request, response) => {
      if (request.headers['if-none-match'] === '"whole"') response.writeHead(304).end();
      else if (String(request.headers['prefer']).includes('delta'))
        response.writeHead(200, { etag: '"stray"' }).end(stray);
      else release = () => response.writeHead(200, { etag: '"whole"' }).end(whole);
    });
    const failure = (): string => policy.status()[0]?.failed?.message ?? '';
    while (!failure().includes('it is for the bundle')) await delay(10);
    expect(code(policy)).toBe('n1');
    while (server.seen.at(-1)?.prefer !== 'modes=snapshot') await delay(10);
    expect(server.seen.at(-1)?.etag).toBeUndefined();
    release();
    await until(policy, 'n8');
    while (policy.status()[0]?.failed !== undefined) await delay(10);
    expect(activations.map(({ snapshot }) => snapshot.bundles[0]?.serial)).toEqual([1, 8]);
  }, 30_000);

  it('is not believed when it sends a delta to who has no base', async () => {
    server.publish(await deltaOf([upsert('/mesh/n', 2)]));
    const policy = await start();
    while (!JSON.stringify(policy.status()).includes('there is nothing that it changes')) await delay(10);
    expect(policy.current('acme')).toBeUndefined();
  });
});
