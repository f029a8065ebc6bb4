import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { rowsOf } from '../../scripts/conformance/judge.ts';
import { NOT_GENERATED } from '../../scripts/fuzz/engine.ts';
import { createRunOpa } from '../../services/cli/opa-binary.ts';
import { WASM_DIFFERENCES } from '../../services/cli/wasm-differences.ts';
import { unpackArchive } from '../../services/shared/bundles/bundle-archive.ts';
import { BUILTINS } from '../../services/pdp/policy/engine/builtins.ts';
import { createEngine } from '../../services/pdp/policy/engine/host.ts';
import { parseValue, printValue } from '../../services/pdp/policy/engine/value-text.ts';
import { isArray, RegoObject, type Value } from '../../services/pdp/policy/engine/value.ts';

const DATA = '{"o": {"1": "one"}, "l": [7, 8]}';
const examples = WASM_DIFFERENCES.flatMap(({ id, example }) => (example === undefined ? [] : [{ id, ...example }]));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-differences-'));
  const rules = examples.map(({ rego }, index) => `r${index} := ${rego}`);
  await writeFile(path.join(folder, 't.rego'), `package t\n\n${rules.join('\n\n')}\n`);
  await writeFile(path.join(folder, 'data.json'), DATA);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const at = (value: Value | undefined, ...keys: readonly (string | number)[]): Value | undefined =>
  keys.reduce<Value | undefined>((inner, key) => {
    if (inner instanceof RegoObject) return inner.get(key);
    return typeof inner === 'object' && inner !== null && isArray(inner) ? inner[Number(key)] : undefined;
  }, value);

describe('the differences of compiled policies', () => {
  it('are each what the interpreter says', async () => {
    const opa = await createRunOpa();
    const { stdout } = await opa(['eval', '--format', 'json', '--data', folder, 'data.t']);
    const rules = at(parseValue(stdout), 'result', 0, 'expressions', 0, 'value');
    for (const [index, { id, interpreter }] of examples.entries()) {
      const value = at(rules, `r${index}`);
      expect([id, value === undefined ? 'undefined' : printValue(value)]).toEqual([id, interpreter]);
    }
  });

  it('are each what the module says', async () => {
    const opa = await createRunOpa();
    const entrypoints = examples.flatMap((_, index) => ['--entrypoint', `t/r${index}`]);
    const archive = path.join(folder, 'bundle.tar.gz');
    const built = await opa(['build', '--target', 'wasm', ...entrypoints, '--output', archive, 't.rego'], {
      cwd: folder,
    });
    expect(built.stderr).toBe('');
    const wasm = (await unpackArchive(await readFile(archive))).find((file) => file.path === 'policy.wasm')!.bytes;
    const limits = { builtins: BUILTINS, memoryMaxBytes: 64 * 1024 * 1024, fuel: 100_000 };
    const engine = await createEngine({ wasm, dataJson: Buffer.from(DATA), ...limits });
    for (const [index, { id, module }] of examples.entries()) {
      const entrypoint = engine.entrypoints.get(`t/r${index}`)!;
      const result = engine.evaluate({ entrypoint, input: '{}', nowMs: 0, format: 'rego' });
      const [row] = result.outcome === 'fault' ? [] : rowsOf(parseValue(result.text));
      const value = at(row, 'result');
      const printed = value === undefined ? 'undefined' : printValue(value);
      expect([id, result.outcome === 'fault' ? `error: ${result.message}` : printed]).toEqual([id, module]);
    }
  });

  it('have names of their own, and the fuzzer knows all of them', () => {
    const ids = WASM_DIFFERENCES.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const passedOver = ['set-order', 'last-digits', 'large-format-int', 'replace-empty', 'conflict-order'];
    expect([...NOT_GENERATED, ...passedOver].sort()).toEqual([...ids].sort());
  });
});
