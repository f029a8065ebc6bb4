import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { packageFolder } from '../../services/cli/opa-binary.ts';
import { readPointers, type InputReads } from '../../services/pdp/core/input-reads.ts';
import { createMemo, type Memo } from '../../services/pdp/core/memo.ts';
import { policyInputDocument, policyInputText } from '../../services/pdp/core/policy-input.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createWasmEvaluator } from '../../services/pdp/policy/wasm-evaluator.ts';
import type { DecisionRequest } from '../../services/shared/contracts/decision.ts';
import { describeMachine, median, table, writeResults } from './measure.ts';
import { compileRego, POLICIES } from './opa.ts';

export interface MemoOptions {
  readonly rounds: number;
  /** Measured time of one way in one round of one policy. */
  readonly turnMs: number;
  readonly log: (line: string) => void;
}

/** Medians, µs a decision, from request to result; the input's text is made in each, as events need it. */
interface MemoResult {
  readonly name: string;
  readonly reads: readonly string[];
  readonly evaluatedUs: number;
  readonly hitUs: number;
  /** Evaluated and remembered, each time something else. */
  readonly missUs: number;
}

const NOW_MS = 1_767_225_600_123;
/** Fits; a hit's table is as full as it becomes. */
const REQUESTS = 1_000;
const ROOM = { maxEntries: 10_000, maxBytes: 64 * 2 ** 20 };
const CALLER = { id: 'gw', tenant: 'acme', requires_agent: false, believe_unverified: true, properties: {} };

const requests: readonly DecisionRequest[] = Array.from({ length: REQUESTS }, (_, n) => ({
  subject: {
    type: 'user',
    id: `user-${n}`,
    properties: { department: 'hr', clearance: n % 5, roles: ['analyst', 'reader'], grade: 'g2' },
  },
  action: { name: 'read' },
  resource: { type: 'dataset', id: `d-${n % 50}`, properties: { department: 'hr', sensitivity: 3 } },
  context: { purpose: 'headcount-report' },
}));

/** µs a decision, over whole passes over all requests for `turnMs`. */
const usOf = (turnMs: number, decide: (request: DecisionRequest) => void, begin: () => void): number => {
  let [count, spentMs] = [0, 0];
  do {
    begin();
    const since = performance.now();
    for (const request of requests) decide(request);
    spentMs += performance.now() - since;
    count += requests.length;
  } while (spentMs < turnMs);
  return (spentMs * 1_000) / count;
};

const measurePolicy = async (
  options: MemoOptions,
  policy: { readonly name: string; readonly wasm: Uint8Array; readonly dataJson: Uint8Array },
): Promise<MemoResult> => {
  const { name, wasm, dataJson } = policy;
  const evaluator = await createWasmEvaluator({ wasm, dataJson, withReads: true });
  const reads: InputReads = evaluator.reads ?? true;
  const remembering = { evaluate: evaluator.evaluate, reads };
  let memo: Memo = createMemo(ROOM);
  const evaluated = (request: DecisionRequest): void =>
    void evaluator.evaluate(policyInputText(request, CALLER, NOW_MS), NOW_MS);
  const remembered = (request: DecisionRequest): void => {
    const text = policyInputText(request, CALLER, NOW_MS);
    const document = () => policyInputDocument(request, CALLER, NOW_MS);
    memo.evaluate(CALLER.tenant, remembering, { text, document }, NOW_MS);
  };
  const ways: Readonly<Record<'evaluated' | 'hit' | 'miss', () => number>> = {
    evaluated: () => usOf(options.turnMs, evaluated, () => undefined),
    hit: () => {
      for (const request of requests) remembered(request);
      return usOf(options.turnMs, remembered, () => undefined);
    },
    miss: () =>
      usOf(options.turnMs, remembered, () => {
        memo = createMemo(ROOM);
      }),
  };
  for (const way of Object.values(ways)) way();
  const of = (way: keyof typeof ways) => median(Array.from({ length: options.rounds }, ways[way]));
  const result = {
    name,
    reads: readPointers(reads),
    evaluatedUs: of('evaluated'),
    hitUs: of('hit'),
    missUs: of('miss'),
  };
  options.log(`measured  ${name}`);
  return result;
};

/** Measures a decision with and without the memo: evaluated, remembered, and evaluated to be remembered. */
export const measureMemo = async (options: MemoOptions): Promise<readonly MemoResult[]> => {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-'));
  try {
    const mesh = await readBundle(readFileSync(path.join(packageFolder(), 'bundles', 'mesh.tar.gz')));
    const source = readFileSync(path.join(POLICIES, 'decide.rego'), 'utf8');
    const small = await compileRego({ scratch, name: 'decide', source, entrypoints: ['edict/decide'], data: {} });
    const dataJson = Buffer.from('{"limits": {"g2": 100}}');
    return [
      await measurePolicy(options, { name: 'roles and attributes', wasm: small.wasm, dataJson }),
      // It reads the time, which stands still here.
      await measurePolicy(options, { name: 'demo bundle', wasm: mesh.wasm, dataJson: mesh.dataJson }),
    ];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** Measures, prints, and keeps the figures in `bench/results/`. */
export const benchMemo = async (options: MemoOptions): Promise<void> => {
  const results = await measureMemo(options);
  const head = ['µs a decision', 'evaluated', 'remembered', 'evaluated to be remembered', 'evaluated / remembered'];
  const rows = results.map(({ name, evaluatedUs, hitUs, missUs }) => [
    name,
    ...[evaluatedUs, hitUs, missUs].map((us) => us.toFixed(1)),
    (evaluatedUs / hitUs).toFixed(1),
  ]);
  options.log(`\n${table([head, ...rows])}\n`);
  for (const { name, reads } of results) options.log(`${name} reads ${reads.join(' ')}`);
  const { rounds, turnMs } = options;
  const machine = describeMachine();
  options.log(`\nmedians of ${rounds} rounds of ${turnMs} ms; ${JSON.stringify(machine)}`);
  options.log(writeResults('memo', { bench: 'memo', machine, settings: { rounds, turnMs }, policies: results }));
};
