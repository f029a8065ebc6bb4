import type { LoadedPolicy } from '@open-policy-agent/opa-wasm';
import { isDeepStrictEqual } from 'node:util';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import type { Evaluate } from '../core/evaluate.ts';
import { caseFileCheck, inputOf, judge, type CaseFile } from './bundle-cases.ts';
import { ENTRYPOINT, type Bundle } from './bundle-reader.ts';

const CASES_MAX = 1_000;
/** Of the SDK's instance, 64 KiB each; it cannot be told to grow less than its module asks for. */
const SDK_PAGES = { initial: 256, maximum: 4_096 };

interface Checked {
  readonly evaluate: Evaluate;
  /** Built-ins that the module asks its host for. */
  readonly hostBuiltins: readonly string[];
}

const refuse = (message: string, cause?: unknown): AppError =>
  new AppError('bundle_invalid', `self-check: ${message}`, { cause });

const readCases = ({ files }: Bundle): readonly (readonly [file: string, cases: CaseFile])[] =>
  files
    .filter(({ path }) => /^cases\/[^/]+\.json$/.test(path))
    .map(({ path, bytes }) => {
      let document: unknown;
      try {
        document = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
      } catch (cause) {
        throw refuse(`${path} is not UTF-8 JSON`, cause);
      }
      if (caseFileCheck.Check(document)) return [path, document] as const;
      const [fault] = caseFileCheck.Errors(document);
      throw refuse(`${path}: ${fault?.instancePath || '/'} ${fault?.message ?? 'is wrong'}`);
    });

/** Lists that come from sets have no order that two engines must share. */
const unordered = (value: unknown): unknown => {
  if (Array.isArray(value)) {
    const items = value.map((item: unknown) => unordered(item));
    return items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).map(([name, member]) => [name, unordered(member)] as const);
  return Object.fromEntries(members.sort(([a], [b]) => (a < b ? -1 : 1)));
};

/** The SDK with the data of the bundle: OPA's own host, which shares no code with ours. */
const loadSdk = async ({ wasm, dataJson }: Bundle): Promise<LoadedPolicy> => {
  try {
    const { loadPolicy } = await import('@open-policy-agent/opa-wasm');
    const policy = await loadPolicy(Buffer.from(wasm), SDK_PAGES);
    policy.setData(JSON.parse(Buffer.from(dataJson).toString('utf8')) as object);
    return policy;
  } catch (cause) {
    throw refuse(`OPA's SDK cannot load the module: ${errorMessage(cause)}`, cause);
  }
};

const sdkAnswer = (policy: LoadedPolicy, text: string): unknown => {
  try {
    const [first] = policy.evaluate(JSON.parse(text), ENTRYPOINT) as readonly { readonly result: unknown }[];
    return first?.result;
  } catch (cause) {
    return { fault: errorMessage(cause) };
  }
};

/**
 * Evaluates the cases that a bundle carries (`cases/*.json`): each must come out as it says, and OPA's SDK must give
 * the same document. A module that asks its host for built-ins is not given to the SDK, which has them wrong or not at
 * all; an input here is always an object, and its numbers are what both engines read from the same text. Gives the
 * number of cases; throws `bundle_invalid` that names the first that differs.
 */
export const runSelfCheck = async (bundle: Bundle, { evaluate, hostBuiltins }: Checked): Promise<number> => {
  const files = readCases(bundle);
  const count = files.reduce((sum, [, { cases }]) => sum + cases.length, 0);
  if (count === 0) return 0;
  if (count > CASES_MAX) throw refuse(`${count} cases, at most ${CASES_MAX} are run`);
  const sdk = hostBuiltins.length > 0 ? undefined : await loadSdk(bundle);
  for (const [file, { defaults = {}, cases }] of files)
    for (const each of cases) {
      const where = `${file}: ${JSON.stringify(each.name)}`;
      const [difference] = judge(each, defaults, evaluate);
      if (difference !== undefined) throw refuse(`${where}: ${difference}`);
      const input = inputOf(each, defaults);
      if (sdk === undefined || 'problems' in input) continue;
      // Our engine came to an end within its fuel, so this one does too.
      const own = evaluate(input.text, input.nowMs);
      const theirs = sdkAnswer(sdk, input.text);
      if (own.outcome === 'fault' || !isDeepStrictEqual(unordered(own.value), unordered(theirs)))
        throw refuse(`${where}: OPA's SDK gives another answer`);
      // Whoever loads a bundle decides too, and must not wait.
      await new Promise((resolve) => setImmediate(resolve));
    }
  return count;
};
