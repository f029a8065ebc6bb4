import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import {
  startActivePolicy,
  type ActivePolicy,
  type ActivePolicyOptions,
} from '../../../services/pdp/policy/active-policy.ts';
import type { PolicyActivation } from '../../../services/pdp/policy/active-set.ts';
import { createBundleStore } from '../../../services/pdp/policy/bundle-store.ts';
import { answering, inputFor, makeBundle } from './make-bundles.ts';

const NEVER_MS = 3_600_000;
const NOW_MS = 1_767_225_600_000;

let folder: string;
let file: string;
let nowMs: number;
const open: ActivePolicy[] = [];
const activations: PolicyActivation[] = [];
const bundles = new Map<number, Uint8Array>();

const bundleOf = async (serial: number): Promise<Uint8Array> => {
  const made = bundles.get(serial) ?? (await makeBundle({ rego: answering(`serial_${serial}`), serial }));
  bundles.set(serial, made);
  return made;
};
const replace = async (bytes: Uint8Array, target = file): Promise<void> => {
  await writeFile(`${target}.new`, bytes);
  await rename(`${target}.new`, target);
};
const storeFolder = (tenant: string | undefined): string => path.join(folder, 'home', tenant ?? '@all');

const start = async (options: Partial<ActivePolicyOptions> = {}): Promise<ActivePolicy> => {
  const policy = await startActivePolicy({
    bundles: [{ path: file }],
    pollMs: NEVER_MS,
    storeOf: (tenant) => createBundleStore(storeFolder(tenant)),
    nowMs: () => nowMs,
    onActivated: (activation) => activations.push(activation),
    ...options,
  });
  open.push(policy);
  return policy;
};
const codeOf = (policy: ActivePolicy, tenant = 'acme'): string | undefined => {
  const result = policy.current(tenant)?.evaluate(JSON.stringify(inputFor()), NOW_MS);
  return result?.outcome === 'answer' ? result.value.reasons[0]?.code : result?.code;
};

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-kept-'));
  file = path.join(folder, 'test.tar.gz');
  nowMs = NOW_MS;
  await replace(await bundleOf(5));
});
afterEach(async () => {
  for (const policy of open.splice(0)) await policy.close();
  activations.length = 0;
  await rm(folder, { recursive: true, force: true });
});

describe('the last good set', () => {
  it('decides after a restart when the source is down, and the source takes over again when it is back', async () => {
    await (await start()).close();
    await rm(file);
    const policy = await start();
    expect(codeOf(policy)).toBe('serial_5');
    expect(activations.at(-1)).toMatchObject({ restored: true });
    expect(policy.status()[0]).toMatchObject({ active: { restored: true }, pending: { sinceMs: NOW_MS } });
    await policy.refresh();
    expect(policy.status()[0]?.failed?.message).toContain('ENOENT');
    await replace(await bundleOf(5));
    await policy.refresh();
    expect(policy.status()[0]).toMatchObject({ active: { restored: false }, failed: undefined, activations: 1 });
    await replace(await bundleOf(6));
    await policy.refresh();
    expect(codeOf(policy)).toBe('serial_6');
  });

  it('is that of each tenant', async () => {
    const own = path.join(folder, 'own.tar.gz');
    await replace(await bundleOf(7), own);
    const tenants = { acme: [{ path: own }] };
    await (await start({ tenants })).close();
    await rm(file);
    await rm(own);
    const policy = await start({ tenants });
    expect([codeOf(policy), codeOf(policy, 'other')]).toEqual(['serial_7', 'serial_5']);
  });

  it('never makes room for an older serial, also not in the next life', async () => {
    await (await start()).close();
    await replace(await bundleOf(4));
    const policy = await start();
    // What lies there is refused, so the last good set decides.
    expect(codeOf(policy)).toBe('serial_5');
    await policy.refresh();
    expect(policy.status()[0]?.failed?.message).toContain('serial 4 of test is below 5');
    await policy.close();
    // Not even when its archive is gone.
    for (const name of await readdir(storeFolder(undefined)))
      if (name.endsWith('.tar.gz')) await rm(path.join(storeFolder(undefined), name));
    const bare = await start();
    expect(codeOf(bare)).toBeUndefined();
    expect(bare.status()[0]?.notKept).toContain('cannot be used');
  });

  it('makes no room for an older serial in one process after another one had a newer', async () => {
    const [one, two] = [await start(), await start()];
    await replace(await bundleOf(7));
    await two.refresh();
    expect(codeOf(two)).toBe('serial_7');
    await replace(await bundleOf(6));
    for (let looks = 0; looks < 2; looks += 1) await one.refresh();
    expect(codeOf(one)).toBe('serial_5');
    expect(one.status()[0]?.failed?.message).toContain('serial 6 of test is below 7');
    await replace(await bundleOf(7));
    await one.refresh();
    expect(codeOf(one)).toBe('serial_7');
  });

  it('is one set of archives, whatever came before', async () => {
    const policy = await start();
    for (const serial of [6, 7]) {
      await replace(await bundleOf(serial));
      await policy.refresh();
    }
    expect((await readdir(storeFolder(undefined))).filter((name) => name.endsWith('.tar.gz'))).toHaveLength(1);
    await policy.close();
    await rm(file);
    expect(codeOf(await start())).toBe('serial_7');
  });

  it('is judged again: changed bytes, other sources and a signature that is asked for now do not pass', async () => {
    await (await start()).close();
    await rm(file);
    const other = await start({ bundles: [{ path: path.join(folder, 'other.tar.gz') }] });
    expect(codeOf(other)).toBeUndefined();
    const requirement = { keys: new Map(), keyId: undefined, scope: undefined };
    const signing = { requirement: () => Promise.resolve(requirement), keyFiles: [] };
    const strict = await start({ bundles: [{ path: file, signing }] });
    expect(codeOf(strict)).toBeUndefined();
    expect(strict.status()[0]?.notKept).toContain('there is no .signatures.json');
    const [name = ''] = (await readdir(storeFolder(undefined))).filter((each) => each.endsWith('.tar.gz'));
    await writeFile(path.join(storeFolder(undefined), name), await bundleOf(6));
    const changed = await start();
    expect(codeOf(changed)).toBeUndefined();
    expect(changed.status()[0]?.notKept).toContain('was changed');
  });

  it.each([
    ['no JSON', '{'],
    ['of another form', '{"version": 2}'],
  ])('refuses whatever comes when its state is %s, until an operator has removed it', async (_what, text) => {
    await (await start()).close();
    const state = path.join(storeFolder(undefined), 'state.json');
    await writeFile(state, text);
    await replace(await bundleOf(4));
    const policy = await start();
    await policy.refresh();
    expect(codeOf(policy)).toBeUndefined();
    expect(policy.status()[0]).toMatchObject({ failed: { code: 'bundle_invalid' }, failures: 1 });
    expect(policy.status()[0]?.failed?.message).toContain(`${storeFolder(undefined)} cannot be used`);
    expect(policy.status()[0]?.notKept).toContain('stop and remove that folder');
    expect(await readFile(state, 'utf8')).toBe(text);
    await policy.close();
    await rm(storeFolder(undefined), { recursive: true });
    expect(codeOf(await start())).toBe('serial_4');
  });

  it('is the newest, and whole, when several processes write at once', async () => {
    const stores = Array.from({ length: 6 }, () => createBundleStore(storeFolder(undefined)));
    const write = async (store: (typeof stores)[number], serial: number): Promise<unknown> =>
      await store.write({
        sources: [file],
        serials: new Map([['test', serial]]),
        confirmedMs: NOW_MS,
        archives: [{ source: file, path: file, bytes: await bundleOf(serial), deltas: [], etag: undefined }],
      });
    await Promise.all(stores.flatMap((store, at) => [write(store, 5 + (at % 3)), write(store, 5 + ((at + 1) % 3))]));
    const found = await stores[0]?.read();
    expect(found?.serials.get('test')).toBe(7);
    const [archive] = (await found?.archives()) ?? [];
    expect(Buffer.from(archive?.bytes ?? []).equals(await bundleOf(7))).toBe(true);
    expect((await readdir(storeFolder(undefined))).filter((name) => name.endsWith('.tar.gz'))).toHaveLength(1);
  });

  it('remembers the serials of all bundles, whatever they are called', async () => {
    const store = createBundleStore(storeFolder(undefined));
    const write = async (serials: readonly (readonly [string, number])[]): Promise<unknown> =>
      await store.write({ sources: [file], serials: new Map(serials), confirmedMs: NOW_MS, archives: [] });
    await write([['test', 5]]);
    await write([['constructor', 3]]);
    expect((await store.read())?.serials).toEqual(
      new Map([
        ['constructor', 3],
        ['test', 5],
      ]),
    );
  });

  it('is not written over by what could not be read again', async () => {
    const store = createBundleStore(storeFolder(undefined));
    const write = async (serial: number): Promise<unknown> =>
      await store.write({ sources: [file], serials: new Map([['test', serial]]), confirmedMs: NOW_MS, archives: [] });
    await write(5);
    await expect(write(Number.NaN)).rejects.toMatchObject({ code: 'internal' });
    expect((await store.read())?.serials.get('test')).toBe(5);
  });

  it('does not keep a new rule from taking over when it cannot be written', async () => {
    await writeFile(path.join(folder, 'home'), 'a file where a folder should be');
    const policy = await start();
    expect(codeOf(policy)).toBe('serial_5');
    expect(policy.status()[0]?.notKept).toMatch(/ENOTDIR|EEXIST/);
  });
});

describe('staleness', () => {
  const staleness = { maxMs: 60_000, whenStale: 'deny' } as const;
  const stateOf = (policy: ActivePolicy): string | undefined => policy.current('acme')?.freshness(nowMs).state;

  it('counts from the last look that found exactly this set, and goes when the source is back', async () => {
    const policy = await start({ staleness });
    nowMs += 60_000;
    await policy.refresh();
    expect(policy.status()[0]?.active).toMatchObject({ confirmedMs: nowMs, stale: false });
    await rm(file);
    nowMs += 60_001;
    await policy.refresh();
    expect(stateOf(policy)).toBe('stale');
    expect(policy.status()[0]?.active).toMatchObject({ stale: true });
    await replace(await bundleOf(5));
    await policy.refresh();
    expect(stateOf(policy)).toBe('fresh');
  });

  it('counts also while the source has something that is refused', async () => {
    const policy = await start({ staleness });
    await replace(await bundleOf(4));
    nowMs += 30_000;
    await policy.refresh();
    await policy.refresh();
    nowMs += 30_001;
    await policy.refresh();
    expect(stateOf(policy)).toBe('stale');
    expect(codeOf(policy)).toBe('serial_5');
  });

  it('goes on across restarts', async () => {
    const policy = await start({ staleness });
    nowMs += 50_000;
    await policy.refresh();
    await policy.close();
    await rm(file);
    nowMs += 50_000;
    const next = await start({ staleness });
    expect(stateOf(next)).toBe('fresh');
    nowMs += 10_001;
    expect(stateOf(next)).toBe('stale');
  });
});
