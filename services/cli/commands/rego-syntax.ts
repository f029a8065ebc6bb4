import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { RunOpa } from '../opa-binary.ts';

/*
 * The syntax tree that `opa parse --format json --json-include locations` prints, in the form in which it is asked here:
 * calls are calls, also where they stand for themselves.
 */

export interface Place {
  readonly file: string;
  readonly row: number;
  readonly col: number;
}

export type Node =
  | { readonly type: 'constant'; readonly text: string; readonly value: unknown; readonly place: Place }
  | { readonly type: 'var'; readonly name: string; readonly place: Place }
  | { readonly type: 'ref'; readonly parts: readonly Node[]; readonly place: Place }
  | { readonly type: 'call'; readonly name: readonly string[]; readonly args: readonly Node[]; readonly place: Place }
  | { readonly type: 'array' | 'set'; readonly items: readonly Node[]; readonly place: Place }
  | { readonly type: 'object'; readonly items: readonly Node[]; readonly place: Place }
  | {
      readonly type: 'comprehension';
      readonly of: 'array' | 'set' | 'object';
      readonly heads: readonly Node[];
      readonly body: readonly Node[];
      readonly place: Place;
    }
  /** `some k, v in domain` and `every k, v in domain {…}`, whose body is empty for `some`. */
  | {
      readonly type: 'iteration';
      readonly every: boolean;
      readonly key: Node | undefined;
      readonly value: Node;
      readonly domain: Node;
      readonly body: readonly Node[];
      readonly place: Place;
    }
  /** What only holds others: an expression with `with`, a text with values in it. */
  | { readonly type: 'group'; readonly items: readonly Node[]; readonly place: Place };

export interface Rule {
  /** The parts of its name; constants are keys. */
  readonly ref: readonly Node[];
  readonly args: readonly Node[];
  /** Of `contains`. */
  readonly key: Node | undefined;
  readonly value: Node | undefined;
  readonly body: readonly Node[];
  readonly otherwise: Rule | undefined;
}

export interface RegoModule {
  readonly package: readonly string[];
  /** By the name that the module gives it. */
  readonly imports: ReadonlyMap<string, readonly string[]>;
  readonly rules: readonly Rule[];
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? (value as readonly unknown[]) : []);
const objectOf = (value: unknown): Readonly<Record<string, unknown>> => (isObject(value) ? value : {});

const placeOf = (node: Readonly<Record<string, unknown>>, outer: Place): Place => {
  const { file, row, col } = objectOf(node['location']);
  return typeof file === 'string' && typeof row === 'number' && typeof col === 'number' ? { file, row, col } : outer;
};

/** The source of a term: a number as it was written. */
const sourceOf = (term: Readonly<Record<string, unknown>>): string => {
  const { text } = objectOf(term['location']);
  return typeof text === 'string' ? Buffer.from(text, 'base64').toString('utf8') : '';
};

const namesOf = (ref: unknown): readonly string[] =>
  listOf(objectOf(ref)['value']).map((part) => String(objectOf(part)['value']));

const callOf = (parts: readonly unknown[], place: Place): Node => ({
  type: 'call',
  name: namesOf(parts[0]),
  args: parts.slice(1).map((part) => termOf(part, place)),
  place,
});

const COMPREHENSIONS = { arraycomprehension: 'array', setcomprehension: 'set', objectcomprehension: 'object' } as const;

const termOf = (term: unknown, outer: Place): Node => {
  const node = objectOf(term);
  const place = placeOf(node, outer);
  const { type, value } = node;
  const items = (): readonly Node[] => listOf(value).map((item) => termOf(item, place));
  switch (type) {
    case 'var':
      return { type: 'var', name: String(value), place };
    case 'ref':
      return { type: 'ref', parts: items(), place };
    case 'call':
      return callOf(listOf(value), place);
    case 'array':
    case 'set':
      return { type, items: items(), place };
    case 'object':
      return { type, items: listOf(value).flatMap((pair) => listOf(pair).map((item) => termOf(item, place))), place };
    case 'arraycomprehension':
    case 'setcomprehension':
    case 'objectcomprehension': {
      const { term: head, key, value: member, body } = objectOf(value);
      const heads = [head, key, member].filter((each) => each !== undefined).map((each) => termOf(each, place));
      return { type: 'comprehension', of: COMPREHENSIONS[type], heads, body: bodyOf(body, place), place };
    }
    case 'templatestring': {
      const parts = listOf(objectOf(value)['parts']);
      const inner = parts.map((part) => ('terms' in objectOf(part) ? expressionOf(part, place) : termOf(part, place)));
      return { type: 'group', items: inner, place };
    }
    default:
      return { type: 'constant', text: sourceOf(node), value, place };
  }
};

const expressionOf = (expression: unknown, outer: Place): Node => {
  const node = objectOf(expression);
  const place = placeOf(node, outer);
  const inner = innerOf(node['terms'], place);
  const replaced = listOf(node['with']).map((each) => termOf(objectOf(each)['value'], place));
  return replaced.length === 0 ? inner : { type: 'group', items: [inner, ...replaced], place };
};

const innerOf = (terms: unknown, place: Place): Node => {
  if (Array.isArray(terms)) return callOf(terms, place);
  const { symbols, domain, key, value, body, type } = objectOf(terms);
  if (Array.isArray(symbols)) {
    const [only] = symbols.map((symbol: unknown) => termOf(symbol, place));
    if (symbols.length !== 1 || only?.type !== 'call') return { type: 'group', items: [], place };
    const domainOf = only.args.at(-1);
    const valueOf = only.args.at(-2);
    if (domainOf === undefined || valueOf === undefined) return { type: 'group', items: [], place };
    const keyOf = only.args.at(-3);
    return { type: 'iteration', every: false, key: keyOf, value: valueOf, domain: domainOf, body: [], place };
  }
  if (domain !== undefined && type === undefined) {
    const keyOf = key === undefined || key === null ? undefined : termOf(key, place);
    const [valueOf, domainOf] = [termOf(value, place), termOf(domain, place)];
    const inside = bodyOf(body, place);
    return { type: 'iteration', every: true, key: keyOf, value: valueOf, domain: domainOf, body: inside, place };
  }
  return termOf(terms, place);
};

const bodyOf = (body: unknown, place: Place): readonly Node[] => listOf(body).map((each) => expressionOf(each, place));

const ruleOf = (rule: unknown, outer: Place): Rule => {
  const node = objectOf(rule);
  const head = objectOf(node['head']);
  const place = placeOf(head, placeOf(node, outer));
  const optional = (value: unknown): Node | undefined => (value === undefined ? undefined : termOf(value, place));
  return {
    ref: listOf(head['ref']).map((part) => termOf(part, place)),
    args: listOf(head['args']).map((arg) => termOf(arg, place)),
    key: optional(head['key']),
    value: optional(head['value']),
    body: bodyOf(node['body'], place),
    otherwise: node['else'] === undefined ? undefined : ruleOf(node['else'], place),
  };
};

const moduleOf = (file: string, text: string): RegoModule => {
  const document = objectOf(JSON.parse(text));
  const start = { file, row: 1, col: 1 };
  const imports = new Map<string, readonly string[]>();
  for (const each of listOf(document['imports'])) {
    const { path: imported, alias } = objectOf(each);
    const names = namesOf(imported);
    imports.set(typeof alias === 'string' ? alias : (names.at(-1) ?? ''), names);
  }
  return {
    package: namesOf({ value: objectOf(document['package'])['path'] }),
    imports,
    rules: listOf(document['rules']).map((rule) => ruleOf(rule, start)),
  };
};

/** Each child once. */
export const childrenOf = (node: Node): readonly Node[] => {
  switch (node.type) {
    case 'constant':
    case 'var':
      return [];
    case 'ref':
      return node.parts;
    case 'call':
      return node.args;
    case 'array':
    case 'set':
    case 'object':
    case 'group':
      return node.items;
    case 'comprehension':
      return [...node.heads, ...node.body];
    case 'iteration':
      return [...(node.key === undefined ? [] : [node.key]), node.value, node.domain, ...node.body];
    default:
      return node satisfies never;
  }
};

/** Everything that a rule consists of, its `else` left out. */
export const partsOf = (rule: Rule): readonly Node[] => [
  ...rule.ref.slice(1),
  ...rule.args,
  ...(rule.key === undefined ? [] : [rule.key]),
  ...(rule.value === undefined ? [] : [rule.value]),
  ...rule.body,
];

/** Parses all modules of a policies folder but tests and ignored folders. Throws `bundle_invalid` where one is no Rego. */
export const parseModules = async (
  runOpa: RunOpa,
  policiesFolder: string,
  ignoredFolders: readonly string[],
): Promise<readonly RegoModule[]> => {
  const names = await readdir(policiesFolder, { recursive: true });
  const files = names
    .filter((name) => name.endsWith('.rego') && !name.endsWith('_test.rego'))
    .filter((name) => !name.split(path.sep).some((part) => ignoredFolders.includes(part)))
    .sort();
  const modules: RegoModule[] = [];
  for (const file of files) {
    const args = ['parse', '--format', 'json', '--json-include', 'locations', file];
    const { exitCode, stdout, stderr } = await runOpa(args, { cwd: policiesFolder });
    if (exitCode !== 0) throw new AppError('bundle_invalid', `opa parse failed:\n${(stderr || stdout).trim()}`);
    modules.push(moduleOf(file, stdout));
  }
  return modules;
};
