import { isObject } from '../../shared/contracts/json.ts';
import { childrenOf, partsOf, type Node, type RegoModule, type Rule } from './rego-syntax.ts';

/** What the syntax tree, the data and the schema of the input tell of a value; `unknown` where they do not. */
export type Kind = 'array' | 'set' | 'object' | 'number' | 'string' | 'boolean' | 'null' | 'unknown';

const KINDS: ReadonlySet<string> = new Set(['array', 'set', 'object', 'number', 'string', 'boolean', 'null']);
const isKind = (text: unknown): text is Kind => typeof text === 'string' && KINDS.has(text);
/** A policy may be as tangled as it likes. */
const MOST_STEPS = 12;

/** The variables of one rule. */
export interface Scope {
  readonly module: RegoModule;
  /** What they are assigned; null where more than one term is. */
  readonly assigned: ReadonlyMap<string, Node | null>;
  /** Those that are keys of an iteration. */
  readonly keys: ReadonlySet<string>;
  /** All that have a value without being walked over by a reference. */
  readonly bound: ReadonlySet<string>;
}

interface ScopedRule {
  readonly path: readonly string[];
  /** Behind the path there is something that is no constant: it is an object of values. */
  readonly isPartial: boolean;
  readonly rule: Rule;
  readonly scope: Scope;
}

export interface Program {
  readonly rules: readonly ScopedRule[];
  /** `data.json` of the folder. */
  readonly data: unknown;
  /** JSON Schema of the input, when there is one. */
  readonly inputSchema: unknown;
  /** Kinds of the results of built-ins. */
  readonly builtins: ReadonlyMap<string, Kind>;
}

const varsOf = (node: Node): readonly string[] =>
  node.type === 'var' ? [node.name] : node.type === 'ref' ? [] : childrenOf(node).flatMap(varsOf);

const scopeOf = (module: RegoModule, rule: Rule): Scope => {
  const assigned = new Map<string, Node | null>();
  const keys = new Set<string>();
  const bound = new Set(rule.args.flatMap(varsOf));
  const assign = (target: Node, value: Node): void => {
    for (const name of varsOf(target)) {
      bound.add(name);
      assigned.set(name, target.type === 'var' && !assigned.has(name) ? value : null);
    }
  };
  const visit = (node: Node): void => {
    if (node.type === 'call') {
      const [left, right] = node.args;
      const name = node.name.join('.');
      if (left !== undefined && right !== undefined && name === 'assign') assign(left, right);
      else if (left !== undefined && right !== undefined && name === 'eq')
        if (left.type === 'var') assign(left, right);
        else if (right.type === 'var') assign(right, left);
      // The second argument is what it walks to.
      if (name === 'walk' && right !== undefined) for (const each of varsOf(right)) bound.add(each);
    } else if (node.type === 'iteration') {
      for (const name of varsOf(node.value)) bound.add(name);
      for (const name of node.key === undefined ? [] : varsOf(node.key)) keys.add(name);
    }
    for (const child of childrenOf(node)) visit(child);
  };
  for (const part of partsOf(rule)) visit(part);
  for (const name of keys) bound.add(name);
  return { module, assigned, keys, bound };
};

const constantText = (node: Node | undefined): string | undefined =>
  node?.type === 'constant' && typeof node.value === 'string' ? node.value : undefined;

const rulesOf = (module: RegoModule): readonly ScopedRule[] => {
  const scoped = (rule: Rule): readonly ScopedRule[] => {
    const [head, ...rest] = rule.ref;
    const names = rest.map(constantText);
    const until = names.indexOf(undefined);
    const constant = (until === -1 ? names : names.slice(0, until)) as readonly string[];
    const name = head?.type === 'var' ? head.name : '';
    const path = [...module.package, name, ...constant];
    const own = { path, isPartial: until !== -1, rule, scope: scopeOf(module, rule) };
    return [
      own,
      ...(rule.otherwise === undefined ? [] : scoped({ ...rule.otherwise, ref: rule.ref, args: rule.args })),
    ];
  };
  return module.rules.flatMap(scoped);
};

/** `capabilities`: OPA's, which name the kinds of results. */
export const programOf = (
  modules: readonly RegoModule[],
  documents: { readonly data: unknown; readonly inputSchema: unknown; readonly capabilities: unknown },
): Program => {
  const { data, inputSchema, capabilities } = documents;
  const builtins = new Map<string, Kind>();
  const listed = isObject(capabilities) ? capabilities['builtins'] : undefined;
  for (const each of Array.isArray(listed) ? (listed as readonly unknown[]) : []) {
    if (!isObject(each) || !isObject(each['decl'])) continue;
    const { result } = each['decl'];
    const type = isObject(result) ? result['type'] : undefined;
    builtins.set(String(each['name']), isKind(type) ? type : 'unknown');
  }
  return { rules: modules.flatMap(rulesOf), data, inputSchema, builtins };
};

const startsWith = (path: readonly string[], start: readonly string[]): boolean =>
  start.length <= path.length && start.every((part, index) => part === path[index]);

const oneOf = (kinds: readonly Kind[]): Kind => {
  const [first = 'unknown'] = kinds;
  return kinds.every((kind) => kind === first) ? first : 'unknown';
};

const kindOfJson = (value: unknown): Kind => {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  const type = typeof value;
  return isKind(type) ? type : 'unknown';
};

const memberOf = (value: unknown, name: string): unknown =>
  isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined;

/** The path below `data` that a name of a module means, when it means a rule or a document. */
export const resolveName = (program: Program, { module }: Scope, names: readonly string[]): readonly string[] => {
  const [head = '', ...rest] = names;
  if (head === 'data' || head === 'input') return names;
  const imported = module.imports.get(head);
  if (imported !== undefined) return [...imported, ...rest];
  const own = [...module.package, head];
  return program.rules.some(({ path }) => startsWith(path, own)) ? [...own, ...rest] : [];
};

const kindOfSchema = (schema: unknown, names: readonly string[]): Kind => {
  const found = names.reduce<unknown>((inner, name) => memberOf(memberOf(inner, 'properties'), name), schema);
  const type = memberOf(found, 'type');
  return type === 'integer' ? 'number' : isKind(type) ? type : 'unknown';
};

const kindOfPath = (program: Program, path: readonly string[], steps: number): Kind => {
  const [root, ...names] = path;
  if (root === 'input') return names.length === 0 ? 'unknown' : kindOfSchema(program.inputSchema, names);
  const exact = program.rules.filter((rule) => startsWith(rule.path, path) && rule.path.length === path.length);
  if (exact.length > 0)
    return oneOf(
      exact.map(({ isPartial, rule, scope }) =>
        isPartial
          ? 'object'
          : rule.key !== undefined && rule.value === undefined
            ? 'set'
            : kindOf(program, scope, rule.value, steps - 1),
      ),
    );
  if (program.rules.some((rule) => startsWith(rule.path, path))) return 'object';
  if (program.rules.some((rule) => startsWith(path, rule.path))) return 'unknown';
  return kindOfJson(names.reduce(memberOf, program.data));
};

const kindOfVariable = (program: Program, scope: Scope, name: string, steps: number): Kind => {
  const value = scope.assigned.get(name);
  if (value !== undefined) return value === null ? 'unknown' : kindOf(program, scope, value, steps - 1);
  if (scope.bound.has(name)) return 'unknown';
  const path = resolveName(program, scope, [name]);
  return path.length === 0 ? 'unknown' : kindOfPath(program, path, steps);
};

const kindOfCall = (program: Program, scope: Scope, call: Node & { type: 'call' }, steps: number): Kind => {
  const path = resolveName(program, scope, call.name);
  if (path.length > 0) return kindOfPath(program, path, steps);
  const name = call.name.join('.');
  if (name !== 'minus') return program.builtins.get(name) ?? 'unknown';
  // Of numbers or of sets.
  return oneOf(call.args.map((arg) => kindOf(program, scope, arg, steps - 1)));
};

/** The constants of a reference as a path, as far as they go; empty when its head is a variable with a value. */
export const constantPath = (program: Program, scope: Scope, parts: readonly Node[]): readonly string[] => {
  const [head, ...rest] = parts;
  if (head?.type !== 'var' || scope.bound.has(head.name)) return [];
  const names = rest.map(constantText);
  const until = names.indexOf(undefined);
  return resolveName(program, scope, [head.name, ...((until === -1 ? names : names.slice(0, until)) as string[])]);
};

export const kindOf = (program: Program, scope: Scope, node: Node | undefined, steps = MOST_STEPS): Kind => {
  if (node === undefined || steps <= 0) return 'unknown';
  switch (node.type) {
    case 'constant':
      return kindOfJson(node.value);
    case 'array':
    case 'set':
    case 'object':
      return node.type;
    case 'comprehension':
      return node.of;
    case 'var':
      return kindOfVariable(program, scope, node.name, steps);
    case 'call':
      return kindOfCall(program, scope, node, steps);
    case 'ref': {
      const [head] = node.parts;
      if (node.parts.length === 1) return kindOf(program, scope, head, steps);
      if (node.parts.slice(1).some((part) => constantText(part) === undefined)) return 'unknown';
      const path = constantPath(program, scope, node.parts);
      return path.length === 0 ? 'unknown' : kindOfPath(program, path, steps);
    }
    case 'group':
    case 'iteration':
      return 'unknown';
    default:
      return node satisfies never;
  }
};
