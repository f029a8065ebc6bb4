import { generateKeyPairSync } from 'node:crypto';
import { createBundleLoader, type BundleLoader, type BundleLoaderOptions } from '../../services/pdp/bundle-loader.ts';
import type { BundleKey } from '../../services/pdp/policy/bundle-keys.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { signFiles } from '../../services/pdp/policy/bundle-signature.ts';
import { createMemoryPool } from '../../services/pdp/policy/engine/memory-pool.ts';
import { loadBundle, type LoadedBundle, type LoadRequest } from '../../services/pdp/policy/load-bundle.ts';
import { DEFAULT_LIMITS, evaluatorFrom } from '../../services/pdp/policy/wasm-evaluator.ts';
import { packArchive } from '../../services/shared/bundles/pack-archive.ts';
import { isAppError } from '../../services/shared/contracts/errors.ts';
import { answering, altered, endlessBundle, inputFor, makeBundle } from './policy/make-bundles.ts';

const MINUTE_MS = 60_000;
const never = new AbortController().signal;

const request = (bytes: Uint8Array, more: Partial<LoadRequest> = {}): LoadRequest => ({
  bytes,
  deltas: [],
  signing: undefined,
  limits: DEFAULT_LIMITS,
  withReads: false,
  known: new Set(),
  ...more,
});

const errorOf = (loading: Promise<unknown>) =>
  loading.then(
    () => undefined,
    (error: unknown) => error,
  );

/** What differs between two loadings of the same is left out. */
const facts = ({ policy, digestBytes, ...told }: LoadedBundle): unknown => ({
  ...told,
  digestBytes: Buffer.from(digestBytes).toString('hex'),
  policy: policy === undefined ? undefined : { ...policy.module, module: true, image: policy.module.image.heap },
  reads: policy?.reads,
});

const codeOf = ({ policy, limits }: LoadedBundle): string | undefined => {
  if (policy === undefined) return undefined;
  const { evaluate } = evaluatorFrom(policy, limits, createMemoryPool());
  const result = evaluate(JSON.stringify(inputFor()), 1_767_225_600_000);
  return result.outcome === 'answer' ? result.value.reasons[0]?.code : result.code;
};

describe('the thread that loads bundles', () => {
  const open: BundleLoader[] = [];
  const start = (options: Partial<BundleLoaderOptions> = {}): BundleLoader => {
    const loader = createBundleLoader({ timeoutMs: MINUTE_MS, ...options });
    open.push(loader);
    return loader;
  };
  afterEach(async () => {
    for (const loader of open.splice(0)) await loader.close();
  });

  it('gives what loading on this thread gives, and a policy that decides here', async () => {
    const { load } = start();
    const data = { mesh: { names: ['a', 'b'] } };
    const archive = await makeBundle({ rego: answering('one'), data, serial: 7, expiresAt: '2031-01-01T00:00:00Z' });
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const { files } = await readBundle(archive);
    const signer = { keyId: 'ci', algorithm: 'EdDSA', key: privateKey } as const;
    const signed = await packArchive([...files, signFiles(files, signer)]);
    const key: BundleKey = { id: 'ci', algorithm: 'EdDSA', key: publicKey, scope: undefined };
    const signing = { keys: new Map([['ci', key]]), keyId: undefined, scope: undefined };
    for (const asked of [
      request(archive, { withReads: true, limits: { ...DEFAULT_LIMITS, fuel: 50_000, memoryMaxBytes: 2 ** 25 } }),
      request(signed, { signing }),
    ]) {
      const there = await load(asked, never);
      const here = await loadBundle(asked, never);
      expect(facts(there)).toEqual(facts(here));
      expect([codeOf(there), codeOf(here)]).toEqual(['one', 'one']);
      const again = await load({ ...asked, known: new Set([there.key]) }, never);
      expect(again).toMatchObject({ name: 'test', serial: 7, digest: there.digest, policy: undefined });
    }
    expect(await errorOf(load(request(archive, { signing }), never))).toMatchObject({ code: 'bundle_invalid' });
  }, 60_000);

  it('refuses with the same code, message and details', async () => {
    const { load } = start();
    const rego = `${answering('one')}\nfetched := http.send({"method": "get", "url": "http://a.example"})\n`;
    const archive = await makeBundle({
      rego: rego.replace('"reasons": [', '"reasons": [{"code": "x", "message": fetched.raw_body}, '),
      anyBuiltin: true,
    });
    for (const bytes of [
      archive,
      Buffer.from('garbage'),
      await altered((await readBundle(archive)).files, { 'policy.wasm': 'no' }),
    ]) {
      const [there, here] = [
        await errorOf(load(request(bytes), never)),
        await errorOf(loadBundle(request(bytes), never)),
      ];
      if (!isAppError(there) || !isAppError(here)) throw new Error('no refusal');
      expect([there.code, there.message, there.details]).toEqual([here.code, here.message, here.details]);
    }
    expect(await errorOf(load(request(archive), never))).toMatchObject({
      details: { missing: [{ builtin: 'http.send' }] },
    });
  }, 60_000);

  it('leaves the archive to whoever has it, and loads one at a time', async () => {
    const { load } = start();
    const archives = await Promise.all([1, 2, 3].map((n) => makeBundle({ rego: answering(`n${n}`), serial: n })));
    const loaded = await Promise.all(archives.map((archive) => load(request(archive), never)));
    expect(loaded.map(codeOf)).toEqual(['n1', 'n2', 'n3']);
    expect(loaded.map(({ serial }) => serial)).toEqual([1, 2, 3]);
    expect(archives.every(({ length }) => length > 0)).toBe(true);
  }, 60_000);

  it('goes on after a bundle that takes too long, a heap that is full, and a load that was given up', async () => {
    const archive = await makeBundle({ rego: answering('one') });
    const endless = await endlessBundle();
    const slow = request(endless, {
      limits: { ...DEFAULT_LIMITS, fuel: 2_000_000_000, memoryMaxBytes: 2 ** 31 },
    });

    const impatient = start({ timeoutMs: 10_000 });
    expect(await errorOf(impatient.load(slow, never))).toMatchObject({
      code: 'bundle_invalid',
      message: 'it was not loaded within 10000 ms',
    });
    expect(codeOf(await impatient.load(request(archive), never))).toBe('one');

    const narrow = start({ heapMaxBytes: 40 * 1024 * 1024 });
    const rows = Array.from({ length: 100_000 }, (_, i) => ({ [`id-${i}`]: [i] }));
    const { files } = await readBundle(await makeBundle({ rego: answering('big'), data: { rows: [] } }));
    const big = await altered(files, { 'data.json': JSON.stringify({ rows: [...rows, ...rows, ...rows] }) });
    expect(await errorOf(narrow.load(request(big), never))).toMatchObject({
      code: 'bundle_invalid',
      message: `to load it takes more than the ${40 * 1024 * 1024} bytes of memory that there are for it`,
    });
    expect(codeOf(await narrow.load(request(archive), never))).toBe('one');

    const loader = start();
    const stop = new AbortController();
    const given = loader.load(slow, stop.signal);
    setTimeout(() => stop.abort(), 2_000);
    expect(await errorOf(given)).toMatchObject({ code: 'internal', message: 'not loaded: stopping' });
    expect(codeOf(await loader.load(request(archive), never))).toBe('one');
  }, 180_000);

  it('ends when it is closed, in whatever it is doing, and loads nothing afterwards', async () => {
    const loader = start();
    const archive = await endlessBundle();
    const loading = errorOf(
      loader.load(request(archive, { limits: { ...DEFAULT_LIMITS, fuel: 2_000_000_000 } }), never),
    );
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    // It would take minutes yet.
    await loader.close();
    expect(await loading).toMatchObject({ code: 'internal' });
    expect(await errorOf(loader.load(request(archive), never))).toMatchObject({ code: 'internal' });
  }, 60_000);

  it('starts again after it had nothing to do', async () => {
    const { load } = start({ idleMs: 1 });
    const archive = await makeBundle({ rego: answering('one') });
    expect(codeOf(await load(request(archive), never))).toBe('one');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(codeOf(await load(request(archive), never))).toBe('one');
  }, 60_000);
});
