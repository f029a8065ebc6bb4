import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Runaway } from './engine-child.ts';
import { compileOwn, withChild } from './engine-process.ts';
import { describeMachine, table, writeResults } from './measure.ts';

/** How long a text the built-ins of each get; an input of the decision point has at most 256 KiB. */
export const TEXT_BYTES = { small: 4_096, large: 65_536, 'most, 200 kB': 200_000 } as const;

/** Rules of the policy; those of the module itself, then those whose work the host does. */
export const RUNAWAYS = [
  'loops',
  'sets',
  'walks',
  'calls',
  'concats',
  'memory',
  'patterns',
  'pattern',
  'globs',
  'documents',
  'documents_out',
  'unions',
  'splits',
  'ranges',
  'sorts',
  'powers',
  'prints',
  'widths',
  'digests',
  'hmacs',
  'replaces',
  'repeats',
  'finds',
  'rescans',
  'yamls',
  'schemas',
  'queries',
  'tokens',
  'key_sets',
  'signatures',
  'certificates',
  'patches',
  'templates',
  'paths',
  'networks',
  'steps',
  'zones',
  'times',
  'uuids',
  'urls',
  'hexes',
] as const;
const NUMBERS = 200;
const RSA_BITS = 4_096;
const KEYS_IN_SET = 10;
const WANTED_MS = 5;

const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token, its key, and a set of keys of which the last one made it. */
export const signedToken = () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: RSA_BITS });
  const signed = `${encoded({ alg: 'RS256', typ: 'JWT' })}.${encoded({ iss: 'bench' })}`;
  const token = `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
  const others = Array.from({ length: KEYS_IN_SET - 1 }, () => generateKeyPairSync('ec', { namedCurve: 'P-384' }));
  const keys = [...others.map((pair) => pair.publicKey), publicKey].map((key) => key.export({ format: 'jwk' }));
  return {
    token,
    key: publicKey.export({ type: 'spki', format: 'pem' }),
    private_key: privateKey.export({ format: 'jwk' }),
    private_pem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    key_set: JSON.stringify({ keys }),
  };
};

/** What the rules are asked with. */
export const runawayInput = (textBytes: number, token: object): object => {
  const numbers = Array.from({ length: NUMBERS }, (_, at) => at);
  const members = Object.fromEntries(numbers.map((number) => [`key${number}`, number]));
  const text = 'abcdefgh'.repeat(textBytes / 8);
  const lines = numbers.map((number) => `key${number}: [1, two, {three: ${number}}]`).join('\n');
  const graph = Object.fromEntries(
    Array.from({ length: 60 }, (_, at) => [`${at}`, at % 2 === 0 ? [`${at + 1}`, `${at + 2}`] : [`${at + 1}`]]),
  );
  return { numbers, text, members, lines, graph, json: JSON.stringify({ members, numbers, text }), ...token };
};

/** Each rule on a small and a large input, each in a process of its own, warm. */
export const measureRunaways = async (
  scratch: string,
  times: number,
  rules: readonly string[] = RUNAWAYS,
): Promise<Readonly<Record<string, Runaway>>> => {
  const wasm = await compileOwn(scratch, 'runaway', RUNAWAYS);
  const token = signedToken();
  const results: Record<string, Runaway> = {};
  for (const rule of rules)
    for (const [size, bytes] of Object.entries(TEXT_BYTES)) {
      const entrypoint = `bench/runaway/${rule}`;
      const policy = { wasm, dataJson: '{}', entrypoint, inputs: [runawayInput(bytes, token)] };
      const name = `${rule}, ${size}`;
      results[name] = await withChild(async (child) => await child.ask({ order: 'runaway', policy, times }));
    }
  return results;
};

/** The slowest, ms of CPU: the middle of its times. */
export const slowestOf = (runaways: Readonly<Record<string, Runaway>>): number =>
  Math.max(...Object.values(runaways).map(({ cpuMs }) => cpuMs));

export const runawayTable = (runaways: Readonly<Record<string, Runaway>>): string =>
  table([
    ['runaway under the default fuel', 'ms CPU', 'longest', 'ms', 'ns/fuel', 'outcome'],
    ...Object.entries(runaways).map(([kind, run]) => [
      kind,
      run.cpuMs.toFixed(1),
      run.cpuMsMax.toFixed(1),
      run.wallMs.toFixed(1),
      ((run.cpuMs * 1_000_000) / run.fuelUsed).toFixed(1),
      run.outcome,
    ]),
  ]);

export interface RunawayOptions {
  readonly times: number;
  /** Names of rules. Default: all. */
  readonly rules?: readonly string[];
  readonly log: (line: string) => void;
}

/** Measures, prints, and keeps the figures in `bench/results/`. */
export const benchRunaways = async ({ times, rules, log }: RunawayOptions): Promise<void> => {
  const machine = describeMachine();
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'edict-bench-'));
  try {
    const runaways = await measureRunaways(scratch, times, rules);
    const slowest = slowestOf(runaways);
    log(`\n${runawayTable(runaways)}`);
    log(`\nslowest ${slowest.toFixed(1)} ms, wanted <= ${WANTED_MS}; ${JSON.stringify(machine)}`);
    log(writeResults('runaway', { bench: 'runaway', machine, settings: { times }, slowest_ms: slowest, runaways }));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};
