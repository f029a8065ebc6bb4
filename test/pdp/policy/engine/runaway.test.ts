import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { compileOwn } from '../../../../scripts/bench/engine-process.ts';
import { ownEngine } from '../../../../scripts/bench/engine-hosts.ts';
import { RUNAWAYS, runawayInput, signedToken, TEXT_BYTES } from '../../../../scripts/bench/runaways.ts';
import type { Engine } from '../../../../services/pdp/policy/engine/host.ts';
import { DEFAULT_FUEL } from '../../../../services/pdp/policy/wasm-evaluator.ts';

describe('under the default fuel, a policy that would not end', () => {
  let folder: string;
  let wasm: Uint8Array;
  const token = signedToken();
  const engineOf = async (): Promise<Engine> =>
    await ownEngine({ wasm, dataJson: '{}', entrypoint: '', inputs: [] }, DEFAULT_FUEL);
  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-runaway-'));
    wasm = await compileOwn(folder, 'runaway', RUNAWAYS);
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each(Object.entries(TEXT_BYTES))(
    'ends on a %s input, after the same steps in each engine',
    async (_size, bytes) => {
      const input = JSON.stringify(runawayInput(bytes, token));
      const engines = [await engineOf(), await engineOf()];
      for (const rule of RUNAWAYS) {
        const [first, second] = engines.map((engine) => {
          const entrypoint = engine.entrypoints.get(`bench/runaway/${rule}`) ?? -1;
          return engine.evaluate({ entrypoint, input, nowMs: 1_767_225_600_000 });
        });
        // Multiplying without end runs out of the module's stack before.
        expect([rule, first]).toMatchObject([
          rule,
          { outcome: 'fault', code: rule === 'powers' ? 'policy_error' : 'policy_fuel' },
        ]);
        expect([rule, first?.fuelUsed]).toEqual([rule, second?.fuelUsed]);
        expect(first?.fuelUsed).toBeLessThanOrEqual(first?.fuelLimit ?? 0);
      }
    },
  );
});
