import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { buildBundle } from '../../../services/cli/commands/policy-build.ts';
import { createRunOpa, packageFolder } from '../../../services/cli/opa-binary.ts';
import { readBundle, type Bundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { loadPolicySet } from '../../../services/pdp/policy/policy-set.ts';
import { runSelfCheck } from '../../../services/pdp/policy/self-check.ts';
import { createWasmEvaluator, type WasmEvaluator } from '../../../services/pdp/policy/wasm-evaluator.ts';
import { altered, answering, inputFor, makeBundle } from './make-bundles.ts';

const caseOf = (expect: object, name = 'a case'): object => ({ name, input: inputFor(), expect });
const fileOf = (...cases: readonly object[]): string => JSON.stringify({ cases });

let plain: Bundle;
let evaluator: WasmEvaluator;
beforeAll(async () => {
  plain = await readBundle(await makeBundle({ rego: answering('fine'), data: { x: { list: [1, 2] } } }));
  evaluator = await createWasmEvaluator(plain);
});

const outcomeOf = async (changes: Readonly<Record<string, string>>): Promise<string> => {
  const bytes = await altered(plain.files, changes);
  return loadPolicySet([{ source: 's', path: 'test.tar.gz', bytes, signing: undefined }]).then(
    () => 'loaded',
    (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
  );
};

describe('the cases that a bundle carries', () => {
  it('let it pass when they come out as they say', async () => {
    const good = fileOf(caseOf({ allow: false, reasons: [{ code: 'fine' }], legs: { subject: false } }));
    expect(await outcomeOf({ 'cases/a.json': good })).toBe('loaded');
    expect(await outcomeOf({})).toBe('loaded');
    const bundle = await readBundle(await altered(plain.files, { 'cases/a.json': good, 'cases/b.json': good }));
    expect(await runSelfCheck(bundle, evaluator)).toBe(2);
  });

  it.each([
    ['another answer', fileOf(caseOf({ allow: false }), caseOf({ allow: true }, 'b')), '"b": allow: expected true'],
    ['another reason', fileOf(caseOf({ allow: false, reasons: [] })), '"a case": reasons: expected []'],
    ['an input that nobody sends', fileOf({ name: 'c', input: {}, expect: { allow: false } }), '"c": input: '],
    ['no JSON', '{', 'cases/a.json is not UTF-8 JSON'],
    ['no cases', '{"cases": []}', 'cases/a.json: /cases'],
    ['an unknown member', '{"cases": [], "more": 1}', 'cases/a.json: /'],
    ['too many cases', fileOf(...Array.from({ length: 1_001 }, () => caseOf({ allow: false }))), 'at most 1000'],
  ])('refuse it for %s', async (_what, text, expected) => {
    const said = await outcomeOf({ 'cases/a.json': text });
    expect(said).toMatch(/^bundle_invalid: test\.tar\.gz: self-check: /);
    expect(said).toContain(expected);
  });

  it('are evaluated by the SDK too: an engine that is wrong alone is found', async () => {
    const bundle = await readBundle(await altered(plain.files, { 'cases/a.json': fileOf(caseOf({ allow: true })) }));
    // An engine with a fault that the case itself cannot see.
    const wrong: WasmEvaluator['evaluate'] = (input, nowMs) => {
      const result = evaluator.evaluate(input, nowMs);
      return result.outcome === 'answer' ? { ...result, value: { ...result.value, allow: true } } : result;
    };
    await expect(runSelfCheck(bundle, { evaluate: wrong, hostBuiltins: [] })).rejects.toThrow('another answer');
    // Where the SDK would be wrong itself it is not asked.
    expect(await runSelfCheck(bundle, { evaluate: wrong, hostBuiltins: ['sprintf'] })).toBe(1);
  });

  it('of the policies here pass on both engines, and go into a bundle when they are asked for', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'edict-self-check-'));
    try {
      const policiesFolder = path.join(folder, 'policies');
      await cp(path.join(packageFolder(), 'policies'), policiesFolder, { recursive: true });
      const opa = await createRunOpa();
      const { bundle } = await buildBundle(opa, { policiesFolder, previous: undefined, withCases: true });
      const texts = bundle.files.filter((file) => file.path.startsWith('cases/')).map((file) => file.path);
      expect(texts).toEqual(['cases/delegation.json', 'cases/surroundings.json']);
      const mesh = await createWasmEvaluator(bundle);
      expect(mesh.hostBuiltins).toEqual([]);
      const counted = await Promise.all(
        texts.map(async (file) => {
          const { cases } = JSON.parse(await readFile(path.join(policiesFolder, file), 'utf8')) as { cases: unknown[] };
          return cases.length;
        }),
      );
      expect(await runSelfCheck(bundle, mesh)).toBe(counted.reduce((sum, count) => sum + count, 0));
      // A bundle that had them keeps them.
      expect((await buildBundle(opa, { policiesFolder, previous: bundle })).changed).toBe(false);
      const without = await buildBundle(opa, { policiesFolder, previous: bundle, withCases: false });
      expect(without.bundle.files.some((file) => file.path.startsWith('cases/'))).toBe(false);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 60_000);
});
