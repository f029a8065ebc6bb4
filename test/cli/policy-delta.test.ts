import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startActivePolicy } from '../../services/pdp/policy/active-policy.ts';
import { applyDelta } from '../../services/pdp/policy/bundle-delta.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createBundleStore } from '../../services/pdp/policy/bundle-store.ts';
import { BUNDLE_LIMITS } from '../../services/shared/bundles/bundle-archive.ts';
import { startBundleServer } from '../pdp/policy/bundle-server.ts';
import { altered, answering, inputFor, makeBundle, type BundleRecipe } from '../pdp/policy/make-bundles.ts';
import { edict } from './policy-command.ts';

const ROOTS = ['edict', 'mesh', 'deep/own'];

let folder: string;
let from: string;
let to: string;
let output: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-delta-'));
  [from, to, output] = ['from', 'to', 'delta'].map((name) => path.join(folder, `${name}.tar.gz`)) as [
    string,
    string,
    string,
  ];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const write = async (file: string, recipe: Partial<BundleRecipe>): Promise<Uint8Array> => {
  const bytes = await makeBundle({ rego: answering('a'), roots: ROOTS, ...recipe });
  await writeFile(file, bytes);
  return bytes;
};
const writeBoth = async (before: string, after: string, more: Partial<BundleRecipe> = {}): Promise<void> => {
  await write(from, { dataText: before });
  await write(to, { dataText: after, serial: 2, ...more });
};
const delta = (...more: readonly string[]) => edict(['delta', '--from', from, '--to', to, '-o', output, ...more]);
const readOne = async (file: string) => readBundle(await readFile(file));

describe('edict policy delta', () => {
  it.each<[string, string, string]>([
    ['a value', '{"mesh": {"n": 1, "m": 1}}', '{"mesh": {"n": 2, "m": 1}}'],
    ['members that come and go', '{"mesh": {"a": {"x": 1}, "b": 1}}', '{"mesh": {"a": {}, "c": {"y": null}}}'],
    ['how a number is written', '{"mesh": {"n": 1.0, "big": 1}}', '{"mesh": {"n": 1.00, "big": 12345678901234567890}}'],
    [
      'names that need escapes',
      '{"mesh": {"a/b": 1, "a~1b": 1, "x y%2F": 1, "é\\n": 1, "~0": 1, "-": 1, "0": 1, "..": 1}}',
      '{"mesh": {"a/b": 2, "a~1b": 3, "x y%2F": 4, "é\\n": 5, "~0": 6, "-": 7, "0": 8, "..": 9}}',
    ],
    [
      'names of prototypes',
      '{"mesh": {"__proto__": {"a": 1}, "constructor": 1}}',
      '{"mesh": {"__proto__": {"a": 2}, "constructor": {"prototype": 1}, "toString": 1, "hasOwnProperty": null}}',
    ],
    [
      'names of nothing',
      '{"mesh": {"a": {"": 1, "b": {"": {"c": 1}}}}}',
      '{"mesh": {"a": {"": 2, "b": {"": {"c": 2}}}}}',
    ],
    ['text that is escaped for HTML', '{"mesh": {"n": "<&>\\u2028"}}', '{"mesh": {"n": "<&>\\u2029\\b\\u007f😀"}}'],
    [
      'items of arrays',
      '{"mesh": {"l": ["aaaaaaaaaa", {"x": 1}, [1, 2], "bbbbbbbbbbbbb", "cccccccccccc"], "m": [1], "k": [1, 2, 3]}}',
      '{"mesh": {"l": ["aaaaaaaaaa", {"x": 2}, [1], "cccccccccccc"], "m": [1, 2, 3], "k": []}}',
    ],
    ['an array of another kind', '{"mesh": {"l": [1], "o": {"0": 1}}}', '{"mesh": {"l": {"0": 1}, "o": [1]}}'],
    ['what is made above a root', '{"mesh": {}}', '{"mesh": {}, "deep": {"own": {"v": 1}}}'],
  ])('leads to the very bundle where it changes %s', async (_what, before, after) => {
    await writeBoth(before, after);
    const ran = await delta('--json');
    const wanted = await readOne(to);
    expect(ran).toMatchObject({ exitCode: 0 });
    const base = await readOne(from);
    expect(JSON.parse(ran.stdout)).toMatchObject({
      serial: 2,
      base: base.digest,
      digest: wanted.digest,
      signed: false,
    });
    const made = await applyDelta(base, await readFile(output), BUNDLE_LIMITS);
    expect(made.digest).toBe(wanted.digest);
    expect(Buffer.from(made.dataJson)).toEqual(Buffer.from(wanted.dataJson));
  });

  it('says one changed item in one operation, whatever lies around it', async () => {
    const users = Array.from({ length: 200 }, (_, index) => ({ id: `user-${index}`, grade: 1 }));
    const after = users.flatMap((user, index) => (index === 7 ? [] : index === 90 ? [user, { id: 'new' }] : [user]));
    await writeBoth(JSON.stringify({ mesh: { users } }), JSON.stringify({ mesh: { users: users.toSpliced(7, 1) } }));
    expect(JSON.parse((await delta('--json')).stdout)).toMatchObject({ operations: 1 });
    await write(to, { dataText: JSON.stringify({ mesh: { users: after } }), serial: 2 });
    expect(await delta()).toMatchObject({ exitCode: 0 });
  });

  const data = '{"mesh": {"n": 1}}';
  const other = '{"mesh": {"n": 2}}';
  const above = '{"mesh": {"n": 1}, "deep": {"own": 1}}';
  it.each<[string, string, string, Partial<BundleRecipe>, string]>([
    ['other rules', data, other, { rego: answering('b') }, 'these differ too: policy.wasm'],
    ['another name', data, other, { name: 'else' }, 'one bundle is test and the other else'],
    ['a serial that is not higher', data, other, { serial: 1 }, 'serial 1 is not above 1'],
    ['the same data', data, data, {}, 'the same data'],
    ['other roots', data, other, { roots: ['edict', 'mesh'] }, 'roots are not those of its base'],
    ['other limits', data, other, { limits: { fuel: 1_000_000 } }, 'limits are not those of its base'],
    ['a member gone above a root', above, data, {}, 'a delta would lead to'],
  ])('is refused, and nothing written, for %s', async (_what, before, after, more, message) => {
    await writeBoth(before, after, more);
    const ran = await delta('--json');
    expect(ran.exitCode).toBe(1);
    expect(ran.stdout).toContain(message);
    expect(await readdir(folder)).not.toContain('delta.tar.gz');
  });

  it('is refused where it does not lead to the bundle, and where it would be too large', async () => {
    await writeBoth(data, other);
    const { files } = await readOne(to);
    await writeFile(to, await altered(files, { 'data.json': '{"mesh":{"n": 2}}' }));
    expect((await delta('--json')).stdout).toContain('a delta would lead to');
    const many = Object.fromEntries(Array.from({ length: 10_001 }, (_, index) => [`n${index}`, 'x'.repeat(index % 9)]));
    const changed = Object.fromEntries(Object.keys(many).map((name) => [name, 1]));
    await writeBoth(JSON.stringify({ mesh: many }), JSON.stringify({ mesh: changed }));
    // So many are said by one: the whole object.
    expect(JSON.parse((await delta('--json')).stdout)).toMatchObject({ operations: 1 });
    await rm(output);
    // A megabyte and more that hardly packs.
    const noise = randomBytes(1_200_000).toString('base64');
    await writeBoth(data, JSON.stringify({ mesh: { n: noise } }));
    expect((await delta('--json')).stdout).toContain('larger than a decision point takes');
    expect(await readdir(folder)).not.toContain('delta.tar.gz');
  });

  it('is a wrong call without its files, or with a key that nothing uses', async () => {
    expect(await edict(['delta', '--from', from, '-o', output])).toMatchObject({ exitCode: 2 });
    expect(await delta()).toMatchObject({ exitCode: 2, stderr: `there is no ${from}` });
    expect(await delta('--signing-key', from)).toMatchObject({ exitCode: 2, stderr: '--signing-key is for --sign' });
  });

  it('is signed, shown, verified, and told what it leads to', async () => {
    await writeBoth(data, other);
    const keys = generateKeyPairSync('ed25519');
    const [key, pub] = [path.join(folder, 'key.pem'), path.join(folder, 'pub.pem')];
    await writeFile(key, keys.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await writeFile(pub, keys.publicKey.export({ type: 'spki', format: 'pem' }));
    expect(await delta('--sign', '--signing-key', key, '--key-id', 'ci')).toMatchObject({ exitCode: 0 });
    const [base, wanted] = [await readOne(from), await readOne(to)];
    const shown = await edict(['inspect', output, '--json', '--verification-key', pub, '--base', from]);
    expect(JSON.parse(shown.stdout)).toMatchObject({
      delta: true,
      name: 'test',
      serial: 2,
      base: base.digest,
      digest: wanted.digest,
      operations: 1,
      bytes: (await readFile(output)).length,
      signature: { kid: 'ci', alg: 'EdDSA', verified: true },
    });
    const text = (await edict(['inspect', output])).stdout;
    expect(text).toContain(`delta of     ${base.digest}`);
    expect(text).toContain('not verified');
    expect(text).not.toContain(wanted.digest);
    expect((await edict(['inspect', output, '--json', '--base', to])).stdout).toContain('it is for the bundle');
    expect(await edict(['inspect', from, '--base', to])).toMatchObject({ exitCode: 2 });
    const wrong = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' });
    await writeFile(pub, wrong);
    expect(await edict(['inspect', output, '--json', '--verification-key', pub])).toMatchObject({ exitCode: 1 });
  });

  it('is taken by a running decision point, one after another, each of the bundle as it was built', async () => {
    const rego = answering('a').replace('[{"code": "a"}]', '[{"code": data.mesh.code}]');
    const server = await startBundleServer();
    const publish = async (file: string): Promise<void> => server.publish(await readFile(file));
    await write(from, { rego, dataText: '{"mesh": {"code": "one"}}' });
    await publish(from);
    const http = { url: server.url, bearerTokenFile: undefined, tls: {}, followRedirects: false, timeoutMs: 2_000 };
    const policy = await startActivePolicy({
      bundles: [{ http: { ...http, maxBytes: 1024 * 1024, pollMs: 40, longPollMs: undefined } }],
      pollMs: 20,
      nowMs: Date.now,
      storeOf: () => createBundleStore(path.join(folder, 'kept')),
    });
    const code = (): string | undefined => {
      const result = policy.current('acme')?.evaluate(JSON.stringify(inputFor()), 1_767_225_600_000);
      return result?.outcome === 'answer' ? result.value.reasons[0]?.code : undefined;
    };
    try {
      expect(code()).toBe('one');
      for (const [serial, wanted] of [
        [2, 'two'],
        [3, 'three'],
      ] as const) {
        await write(to, { rego, serial, dataText: JSON.stringify({ mesh: { code: wanted } }) });
        expect(await delta()).toMatchObject({ exitCode: 0 });
        await publish(output);
        while (code() !== wanted) await delay(10);
        expect(policy.current('acme')?.bundles[0]?.digest).toBe((await readOne(to)).digest);
        await writeFile(from, await readFile(to));
      }
      expect(policy.status()[0]?.remotes[0]?.deltas).toBe(2);
    } finally {
      await policy.close();
      await server.close();
    }
  }, 30_000);
});
