import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { packArchive } from '../../../services/shared/bundles/pack-archive.ts';
import {
  startActivePolicy,
  type ActivePolicy,
  type ActivePolicyOptions,
} from '../../../services/pdp/policy/active-policy.ts';
import type { PolicyActivation, PolicyFailure } from '../../../services/pdp/policy/active-set.ts';
import { readBundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { signFiles } from '../../../services/pdp/policy/bundle-signature.ts';
import type { PolicySnapshot } from '../../../services/pdp/policy/policy-set.ts';
import { bundleSources } from '../../../services/pdp/policy/source-settings.ts';
import { answering, inputFor, makeBundle } from './make-bundles.ts';

const NOW_MS = 1_767_225_600_000;
const INPUT = JSON.stringify(inputFor());
/** Longer than any test: only `refresh` looks. */
const NEVER_MS = 3_600_000;

const codesOf = (snapshot: PolicySnapshot | undefined): readonly string[] => {
  const result = snapshot?.evaluate(INPUT, NOW_MS);
  return result?.outcome === 'answer' ? result.value.reasons.map((reason) => reason.code) : [`${result?.code}`];
};

let folder: string;
let file: string;
const open: ActivePolicy[] = [];
const activations: PolicyActivation[] = [];
const failures: PolicyFailure[] = [];
const bundles = new Map<string, Uint8Array>();

const start = async (options: Partial<ActivePolicyOptions> = {}): Promise<ActivePolicy> => {
  const policy = await startActivePolicy({
    bundles: [{ path: file }],
    pollMs: NEVER_MS,
    nowMs: () => 1_000,
    onActivated: (activation) => activations.push(activation),
    onFailed: (failure) => failures.push(failure),
    ...options,
  });
  open.push(policy);
  return policy;
};

/** As `edict policy build` writes: a reader sees the old file or the new one. */
const replace = async (target: string, bytes: Uint8Array): Promise<void> => {
  await writeFile(`${target}.new`, bytes);
  await rename(`${target}.new`, target);
};

const bundleOf = async (code: string, serial: number, name = 'test', allow = false): Promise<Uint8Array> => {
  const key = JSON.stringify([code, serial, name, allow]);
  const made = bundles.get(key) ?? (await makeBundle({ rego: answering(code, allow), serial, name }));
  bundles.set(key, made);
  return made;
};

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-active-'));
  file = path.join(folder, 'test.tar.gz');
  await replace(file, await bundleOf('one', 1));
});
afterEach(async () => {
  for (const policy of open.splice(0)) await policy.close();
  activations.length = 0;
  failures.length = 0;
  await rm(folder, { recursive: true, force: true });
});

describe('the active policy', () => {
  it('decides from the start and says what it is', async () => {
    const policy = await start();
    const snapshot = policy.current('acme');
    const { digest } = await readBundle(await bundleOf('one', 1));
    expect(codesOf(snapshot)).toEqual(['one']);
    expect(snapshot?.bundles).toEqual([{ name: 'test', digest, serial: 1 }]);
    expect(snapshot?.setDigest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(Object.isFrozen(snapshot)).toBe(true);
    expect(policy.status()).toMatchObject([
      {
        tenant: undefined,
        active: { sinceMs: 1_000 },
        pending: undefined,
        failed: undefined,
        activations: 1,
        failures: 0,
      },
    ]);
    expect(activations).toHaveLength(1);
    expect(activations[0]?.archives[0]?.bytes).toEqual(Buffer.from(await bundleOf('one', 1)));
  });

  it('swaps to a new bundle, and whoever holds the old one keeps it', async () => {
    const policy = await start();
    const held = policy.current('acme');
    await replace(file, await bundleOf('two', 2));
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toEqual(['two']);
    expect(codesOf(held)).toEqual(['one']);
    expect(activations[1]?.previous).toBe(held);
  });

  it('does not activate again what it has already', async () => {
    const policy = await start();
    const held = policy.current('acme');
    await utimes(file, 1, 1);
    await policy.refresh();
    expect(policy.current('acme')).toBe(held);
    expect(policy.status()[0]).toMatchObject({ activations: 1, failures: 0, pending: undefined });
  });

  it.each([
    ['cut off', async () => (await bundleOf('two', 2)).subarray(0, 500)],
    ['empty', async () => Buffer.alloc(0)],
    ['of garbage', async () => Buffer.from('garbage')],
    ['without the entrypoint', async () => makeBundle({ rego: 'package edict\n\ndecide := 1\n', serial: 2 })],
  ])('keeps deciding with the old bundle when the new one is %s, and says why', async (_what, make) => {
    const policy = await start();
    await replace(file, await make());
    await policy.refresh();
    // It may be half-written, so one look is no proof.
    expect(policy.status()[0]).toMatchObject({ pending: { sinceMs: 1_000 }, failed: undefined, failures: 0 });
    await policy.refresh();
    expect(policy.status()[0]).toMatchObject({ pending: undefined, failed: { code: 'bundle_invalid' }, failures: 1 });
    expect(policy.status()[0]?.failed?.message).toContain(file);
    expect(failures).toHaveLength(1);
    expect(codesOf(policy.current('acme'))).toEqual(['one']);
    await policy.refresh();
    expect(policy.status()[0]?.failures).toBe(1);
    await replace(file, await bundleOf('three', 3));
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toEqual(['three']);
    expect(policy.status()[0]).toMatchObject({ failed: undefined, pending: undefined, activations: 2 });
  });

  it('takes a file that was half-written at one look and whole at the next, without a failure', async () => {
    const policy = await start();
    const whole = await bundleOf('two', 2);
    await writeFile(file, whole.subarray(0, whole.length / 2));
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toEqual(['one']);
    await writeFile(file, whole);
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toEqual(['two']);
    expect(policy.status()[0]).toMatchObject({ failures: 0, failed: undefined });
  });

  it('keeps deciding when the file is gone, and recovers when it is back', async () => {
    const policy = await start();
    await rm(file);
    await policy.refresh();
    await policy.refresh();
    await policy.refresh();
    expect(policy.status()[0]).toMatchObject({ failed: { code: 'bundle_invalid' }, failures: 1 });
    expect(codesOf(policy.current('acme'))).toEqual(['one']);
    await replace(file, await bundleOf('one', 1));
    await policy.refresh();
    expect(policy.status()[0]).toMatchObject({ failed: undefined, activations: 1 });
  });

  it('refuses a serial that goes backwards', async () => {
    await replace(file, await bundleOf('two', 2));
    const policy = await start();
    await replace(file, await bundleOf('one', 1));
    await policy.refresh();
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toEqual(['two']);
    expect(policy.status()[0]?.failed?.message).toContain('serial 1 of test is below 2');
  });

  it('has no policy where there never was a good bundle', async () => {
    await writeFile(file, 'garbage');
    const policy = await start();
    expect(policy.current('acme')).toBeUndefined();
    expect(policy.status()[0]).toMatchObject({ active: undefined, activations: 0 });
    await policy.refresh();
    expect(policy.status()[0]?.failed).toBeDefined();
  });

  it('gives a tenant its own set and nobody else', async () => {
    const own = path.join(folder, 'acme.tar.gz');
    await replace(own, await bundleOf('acme_only', 1, 'acme'));
    const policy = await start({
      tenants: { acme: [{ path: own }], broken: [{ path: path.join(folder, 'missing.tar.gz') }] },
    });
    expect(codesOf(policy.current('acme'))).toEqual(['acme_only']);
    expect(codesOf(policy.current('other'))).toEqual(['one']);
    // A tenant whose own set is missing does not fall back to another's rules.
    expect(policy.current('broken')).toBeUndefined();
    expect(policy.status().map((set) => set.tenant)).toEqual([undefined, 'acme', 'broken']);
  });

  it.each([
    ['the same part of data', ['edict', 'x'], ['edict', 'x'], 'overlap (["x","x"])'],
    ['a part of the other', ['edict', 'x'], ['edict', 'x/y'], 'overlap (["x","x/y"])'],
    ['everything', ['edict', 'x'], [''], 'overlap (["x",""])'],
    ['their own parts', ['edict', 'x'], ['edict', 'y', 'edict2'], undefined],
  ])('of two bundles that claim %s', async (_what, ofA, ofB, expected) => {
    const [a, b] = [path.join(folder, 'a.tar.gz'), path.join(folder, 'b.tar.gz')];
    await replace(a, await makeBundle({ rego: answering('a'), name: 'a', roots: ofA }));
    await replace(b, await makeBundle({ rego: answering('b'), name: 'b', roots: ofB }));
    const policy = await start({ bundles: [{ path: a }, { path: b }] });
    await policy.refresh();
    if (expected === undefined) expect(codesOf(policy.current('acme'))).toEqual(['a', 'b']);
    else expect(policy.status()[0]).toMatchObject({ active: undefined, failed: { code: 'bundle_invalid' } });
    if (expected !== undefined) expect(policy.status()[0]?.failed?.message).toContain(expected);
  });

  it('refuses a bundle that expired, and permits nothing from the moment that it does', async () => {
    let nowMs = NOW_MS;
    const expiresAt = new Date(NOW_MS + 1_000).toISOString();
    const expiring = await makeBundle({ rego: answering('two', true), serial: 2, expiresAt });
    await replace(file, expiring);
    const policy = await start({ nowMs: () => nowMs });
    const snapshot = policy.current('acme');
    expect(snapshot?.freshness(nowMs)).toEqual({ state: 'fresh', untilMs: NOW_MS + 1_000 });
    expect(policy.status()[0]?.active?.expiresMs).toBe(NOW_MS + 1_000);
    nowMs += 1_000;
    expect(snapshot?.freshness(nowMs)).toMatchObject({ state: 'stale', denies: true });
    const late = await start({ nowMs: () => nowMs });
    await late.refresh();
    expect(late.current('acme')).toBeUndefined();
    expect(late.status()[0]?.failed?.message).toContain(`test expired at ${expiresAt}`);
  });

  it('takes signed bundles only, each tenant by its own keys, and tries again when a key is replaced', async () => {
    const pairs = ['a', 'b'].map((id) => ({ id, ...generateKeyPairSync('ed25519') }));
    const pem = (id: string): string => path.join(folder, `${id}.pem`);
    for (const { id, publicKey } of pairs) await writeFile(pem(id), publicKey.export({ type: 'spki', format: 'pem' }));
    const signedBy = async (at: number, bytes: Uint8Array): Promise<Uint8Array> => {
      const { id, privateKey: key } = pairs[at]!;
      const { files } = await readBundle(bytes);
      return packArchive([...files, signFiles(files, { keyId: id, key, algorithm: 'EdDSA' })]);
    };
    const keys = Object.fromEntries(
      pairs.map(({ id }) => [id, { algorithm: 'EdDSA' as const, key_file: pem(id) }] as const),
    );
    const own = path.join(folder, 'own.tar.gz');
    const [forAll, ofAcme] = [
      bundleSources([file], keys),
      bundleSources([{ path: own, signing: { keys: ['b'], scope: '' } }], keys),
    ];
    await replace(own, await signedBy(0, await bundleOf('one', 1)));
    const policy = await start({ bundles: forAll, tenants: { acme: ofAcme } });
    expect(policy.current('other')).toBeUndefined();
    await replace(file, await signedBy(1, await bundleOf('one', 1)));
    await policy.refresh();
    expect(codesOf(policy.current('other'))).toEqual(['one']);
    expect(policy.status()[0]?.active?.signatures).toEqual({ test: { key: 'b', algorithm: 'EdDSA', scope: '' } });
    // The key of somebody else does not count here.
    expect(policy.current('acme')).toBeUndefined();
    expect(policy.status()[1]?.failed?.message).toContain('not signed by the key b');
    await writeFile(pem('b'), pairs[0]!.publicKey.export({ type: 'spki', format: 'pem' }));
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toEqual(['one']);
    await rm(pem('a'));
    await policy.refresh();
    await policy.refresh();
    expect(policy.status()[0]?.failed).toMatchObject({ code: 'settings_invalid' });
    expect(codesOf(policy.current('other'))).toEqual(['one']);
  });

  it('looks at no signature where the settings say so', async () => {
    const keys = { a: { algorithm: 'EdDSA' as const, key_file: path.join(folder, 'none') } };
    const policy = await start({ bundles: bundleSources([{ path: file, unsigned: true }], keys) });
    expect(codesOf(policy.current('acme'))).toEqual(['one']);
  });

  it('asks every bundle of a set, and one denial is enough', async () => {
    const sets = path.join(folder, 'set');
    await rm(sets, { recursive: true, force: true });
    const [a, b] = [path.join(folder, 'a.tar.gz'), path.join(folder, 'b.tar.gz')];
    await replace(a, await bundleOf('a_allows', 1, 'a', true));
    await replace(b, await bundleOf('b_allows', 1, 'b', true));
    const policy = await start({ bundles: [{ path: a }, { path: b }] });
    const both = policy.current('acme');
    expect(both?.evaluate(INPUT, NOW_MS)).toMatchObject({ value: { allow: true, legs: { subject: true } } });
    await replace(b, await bundleOf('b_denies', 2, 'b'));
    await policy.refresh();
    expect(policy.current('acme')?.evaluate(INPUT, NOW_MS)).toMatchObject({
      value: { allow: false, legs: { subject: false } },
    });
    expect(codesOf(policy.current('acme'))).toEqual(['b_denies']);
    expect(policy.current('acme')?.bundles.map((bundle) => bundle.name)).toEqual(['a', 'b']);
    expect(policy.current('acme')?.setDigest).not.toBe(both?.setDigest);
  });

  it('reads all archives of a folder, and refuses two of one name', async () => {
    const policy = await start({ bundles: [{ path: folder }] });
    expect(policy.current('acme')?.bundles).toHaveLength(1);
    await replace(path.join(folder, 'twin.tar.gz'), await bundleOf('twin', 1));
    await policy.refresh();
    await policy.refresh();
    expect(policy.status()[0]?.failed?.message).toContain('both named test');
    expect(codesOf(policy.current('acme'))).toEqual(['one']);
  });

  it('never mixes two bundles and never misses an answer while bundles change under load', async () => {
    const serials = [1, 2, 3, 4, 5, 6];
    const archives = await Promise.all(serials.map((serial) => bundleOf(`serial_${serial}`, serial)));
    await replace(file, archives[0]!);
    const policy = await start({ pollMs: 1 });
    const seen = new Set<number>();
    let decisions = 0;
    const writer = (async () => {
      for (const archive of archives.slice(1)) {
        await replace(file, archive);
        const wanted = serials[archives.indexOf(archive)]!;
        while (policy.current('acme')?.bundles[0]?.serial !== wanted) await policy.refresh();
      }
    })();
    let writing = true;
    void writer.finally(() => {
      writing = false;
    });
    while (writing) {
      const snapshot = policy.current('acme');
      const serial = snapshot?.bundles[0]?.serial ?? 0;
      for (let i = 0; i < 20; i += 1) {
        expect(codesOf(snapshot)).toEqual([`serial_${serial}`]);
        decisions += 1;
        if (i % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      seen.add(serial);
    }
    await writer;
    expect(seen.size).toBeGreaterThan(1);
    expect(decisions).toBeGreaterThan(100);
    expect(policy.status()[0]).toMatchObject({ activations: serials.length, failures: 0 });
  });

  it('picks up a change by itself', async () => {
    const policy = await start({ pollMs: 5 });
    await replace(file, await bundleOf('two', 2));
    while (codesOf(policy.current('acme'))[0] !== 'two') await new Promise((resolve) => setTimeout(resolve, 5));
    await policy.close();
    await replace(file, await bundleOf('three', 3));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(codesOf(policy.current('acme'))).toEqual(['two']);
  });

  it.each(['itself', 'in a folder'])('refuses a pipe and goes on, as the source %s', async (where) => {
    const pipe = path.join(folder, where === 'itself' ? 'pipe' : 'z.tar.gz');
    execFileSync('mkfifo', [pipe]);
    const policy = await start({ bundles: [{ path: where === 'itself' ? pipe : folder }] });
    await policy.refresh();
    expect(failures).toMatchObject([{ code: 'bundle_invalid', message: `${pipe} is neither a file nor a folder` }]);
    await rm(pipe);
    await replace(pipe, await bundleOf('two', 1, where === 'itself' ? 'test' : 'other'));
    await policy.refresh();
    expect(codesOf(policy.current('acme'))).toContain('two');
    // Closing waits for what is looked at.
    await policy.close();
  });
});
