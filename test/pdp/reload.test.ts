import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startPdp, type Pdp } from '../../services/pdp/main.ts';
import { createLogger } from '../../services/shared/runtime/logger.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { answering, endlessBundle, makeBundle } from './policy/make-bundles.ts';
import { reloadMany } from './reloads.ts';

const MIB = 1024 * 1024;
const REQUEST = {
  subject: { type: 'user', id: 'alice' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
};

interface Answer {
  readonly reasons: readonly { readonly code: string }[];
  readonly policy: { readonly bundles: readonly { readonly serial: number }[] };
}

describe('a reload while decisions are asked for', () => {
  let directory: string;
  let bundle: string;
  let pdp: Pdp | undefined;

  const replace = (bytes: Uint8Array): void => {
    writeFileSync(`${bundle}.new`, bytes);
    renameSync(`${bundle}.new`, bundle);
  };
  const start = async (more: string): Promise<string> => {
    const file = join(directory, 'edict.yaml');
    writeFileSync(
      file,
      `home: home\npdp: {listen: "127.0.0.1:0", bundles: [bundle.tar.gz], bundle_poll: 50ms, policy_memory: 1GiB${more}}\n`,
    );
    pdp = await startPdp(loadSettings({ file, environment: {} }).settings, {
      logger: createLogger({ service: 'pdp', level: 'silent' }),
      registry: createRegistry({ service: 'pdp', processMetrics: false }),
    });
    return pdp.url;
  };
  const ask = async (url: string): Promise<readonly [serial: number | undefined, code: string | undefined]> => {
    const response = await fetch(`${url}/decide`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(REQUEST),
    });
    const { policy, reasons } = (await response.json()) as Answer;
    return [policy.bundles[0]?.serial, reasons[0]?.code];
  };
  const setOf = async (url: string) => {
    const { sets } = (await (await fetch(`${url}/v1/bundles`)).json()) as {
      readonly sets: readonly { readonly pending?: object; readonly failed?: { readonly message: string } }[];
    };
    return sets[0];
  };
  const until = async (isSo: () => Promise<boolean>): Promise<void> => {
    while (!(await isSo())) await delay(20);
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'edict-reload-'));
    bundle = join(directory, 'bundle.tar.gz');
    replace(await makeBundle({ rego: answering('one'), serial: 1 }));
  });
  afterEach(async () => {
    await pdp?.close();
    pdp = undefined;
    rmSync(directory, { recursive: true, force: true });
  });

  it('goes on with the old bundle while a large one is loaded, and answers by the new one afterwards', async () => {
    const url = await start('');
    const rows = Array.from({ length: 120_000 }, (_, i) => ({ [`id-${i}`]: i, name: `row ${i * 7_919}` }));
    const large = await makeBundle({ rego: answering('two'), serial: 2, data: { mesh: { rows } } });
    expect(await ask(url)).toEqual([1, 'one']);
    replace(large);
    let whileLoading = 0;
    for (let answer = await ask(url); answer[0] !== 2; answer = await ask(url)) {
      expect(answer).toEqual([1, 'one']);
      if ((await setOf(url))?.pending !== undefined) whileLoading += 1;
    }
    expect(await ask(url)).toEqual([2, 'two']);
    // A load on the thread that answers would let through two at most.
    expect(whileLoading).toBeGreaterThan(20);
  }, 120_000);

  it('refuses a bundle that takes too long to load, and goes on', async () => {
    const url = await start(', bundle_load_max: 8s, fuel: 2000000000');
    const endless = await endlessBundle(2);
    replace(endless);
    await until(async () => (await setOf(url))?.failed !== undefined);
    expect((await setOf(url))?.failed).toMatchObject({
      code: 'bundle_invalid',
      message: `${bundle}: it was not loaded within 8000 ms`,
    });
    expect(await ask(url)).toEqual([1, 'one']);
    replace(await makeBundle({ rego: answering('three'), serial: 3 }));
    await until(async () => (await ask(url))[0] === 3);
  }, 180_000);

  it('stops at once while a bundle is loaded', async () => {
    const url = await start(', fuel: 2000000000');
    replace(await endlessBundle(2));
    await until(async () => (await setOf(url))?.pending !== undefined);
    expect(await ask(url)).toEqual([1, 'one']);
    // A load may take five minutes, and this test one.
    await pdp?.close();
    pdp = undefined;
  }, 60_000);

  it('has the same memory after hundreds of reloads', async () => {
    const { wrong, residentBytes, engines } = await reloadMany(400);
    expect(wrong).toEqual([]);
    expect(engines.live).toBe(3);
    const [first = 0, ...later] = residentBytes;
    // Garbage that is not collected yet counts, so no single value is right.
    expect(Math.min(...later.slice(later.length / 2))).toBeLessThan(first + 64 * MIB);
  }, 300_000);
});
