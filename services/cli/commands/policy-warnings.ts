import { WASM_DIFFERENCES, type DifferenceId } from '../wasm-differences.ts';
import { constantPath, kindOf, resolveName, type Kind, type Program, type Scope } from './rego-kinds.ts';
import { childrenOf, partsOf, type Node, type Place } from './rego-syntax.ts';

/** A construct whose value may not be that of OPA's interpreter: see docs/differences.md. */
export interface PolicyWarning extends Place {
  readonly id: DifferenceId;
  /** False: it depends on values that the sources do not tell. */
  readonly certain: boolean;
  readonly what: string;
}

/** `certain`, `possible`, or that it cannot be. */
type Doubt = 'certain' | 'possible' | 'none';

type Call = Node & { readonly type: 'call' };
type Comprehension = Node & { readonly type: 'comprehension' };

interface At {
  readonly program: Program;
  readonly scope: Scope;
  /** The built-in that takes this node as its argument, when it does so directly. */
  readonly taker: string | undefined;
  /** By variable: the built-ins that take it, undefined among them where it is used otherwise. */
  readonly takers: ReadonlyMap<string, readonly (string | undefined)[]>;
}

const EVERY = 'every';
const ORDERLESS: ReadonlySet<string> = new Set(
  'count sum product max min sort internal.member_2'.split(' ').concat(EVERY),
);
const WHOLE: ReadonlySet<string> = new Set(['count', 'indexof', 'strings.count', 'round', 'floor', 'ceil']);
const ROUNDED: ReadonlySet<string> = new Set(['round', 'floor', 'ceil']);
const SUMS: ReadonlySet<string> = new Set(['plus', 'minus', 'mul']);
/** Nanoseconds since 1970. */
const TIMES: ReadonlySet<string> = new Set(['time.now_ns', 'time.parse_ns', 'time.parse_rfc3339_ns', 'time.add_date']);
const ANY_NUMBER: ReadonlySet<string> = new Set(['max', 'min', 'to_number']);
const SMALL_END = 2 ** 31;

const numberOf = (node: Node | undefined): number | undefined =>
  node?.type === 'constant' && typeof node.value === 'number' ? node.value : undefined;
const textOf = (node: Node | undefined): string | undefined =>
  node?.type === 'constant' && typeof node.value === 'string' ? node.value : undefined;

/** Who takes the child of a node: the built-in, or an `every` without positions. */
const takerOf = (at: Pick<At, 'program' | 'scope'>, node: Node, child: Node, index: number): string | undefined => {
  if (node.type === 'iteration')
    return node.every && node.key === undefined && child === node.domain ? EVERY : undefined;
  if (node.type !== 'call') return undefined;
  const name = builtinOf(at, node);
  // The first of `x in xs` is what is looked for.
  return name === 'internal.member_2' && index === 0 ? undefined : name;
};

/** The name of a built-in; undefined for a function of the policies. */
const builtinOf = ({ program, scope }: Pick<At, 'program' | 'scope'>, { name }: Call): string | undefined =>
  resolveName(program, scope, name).length > 0 ? undefined : name.join('.');

/** What a variable was assigned, when it was so once. */
const followed = ({ scope }: At, node: Node | undefined): Node | undefined =>
  node?.type === 'var' ? (scope.assigned.get(node.name) ?? node) : node;

const walked = (kind: Kind, node: Node): Doubt => {
  if (kind === 'unknown') return 'possible';
  if (kind !== 'set' && kind !== 'object') return 'none';
  const fewest = node.type === 'set' ? 1 : node.type === 'object' ? 2 : 0;
  return node.type === kind && childrenOf(node).length <= fewest ? 'none' : 'certain';
};

const worst = (doubts: readonly Doubt[]): Doubt =>
  doubts.includes('certain') ? 'certain' : doubts.includes('possible') ? 'possible' : 'none';

/** How the things are ordered that a body walks over. */
const walkedIn = (at: At, node: Node): readonly Doubt[] => {
  const { program, scope } = at;
  // A comprehension inside is a value of its own.
  const inner = node.type === 'comprehension' ? [] : childrenOf(node).flatMap((child) => walkedIn(at, child));
  if (node.type === 'iteration' && !node.every)
    return [...inner, walked(kindOf(program, scope, node.domain), node.domain)];
  if (node.type === 'call' && builtinOf(at, node) === 'walk' && node.args[0] !== undefined)
    return [...inner, walked(kindOf(program, scope, node.args[0]), node.args[0])];
  if (node.type !== 'ref') return inner;
  const own = node.parts.flatMap((part, index): readonly Doubt[] => {
    if (index === 0 || part.type !== 'var' || scope.bound.has(part.name)) return [];
    const before: Node = { type: 'ref', parts: node.parts.slice(0, index), place: node.place };
    const collection = index === 1 ? (node.parts[0] ?? before) : before;
    return [walked(kindOf(program, scope, collection), collection)];
  });
  return [...inner, ...own];
};

const isOrderless = ({ taker, takers }: At, node: Comprehension, assignedTo: string | undefined): boolean => {
  if (taker !== undefined && ORDERLESS.has(taker)) return true;
  if (node.heads.every((head) => head.type === 'constant')) return true;
  const uses = assignedTo === undefined ? undefined : takers.get(assignedTo);
  return uses !== undefined && uses.every((use) => use !== undefined && ORDERLESS.has(use));
};

/** Powers of 2 and 5, whose quotients have few digits. */
const hasOnlyTwosAndFives = (source: string): boolean => {
  const digits = source.replace(/[eE].*$/, '').replaceAll(/[-+.]/g, '');
  let rest = BigInt(digits === '' ? 0 : digits);
  if (rest === 0n) return true;
  for (const prime of [2n, 5n]) while (rest % prime === 0n) rest /= prime;
  return rest === 1n;
};

const division = (at: At, [dividend, divisor]: readonly Node[]): Doubt => {
  const by = numberOf(divisor);
  if (by === undefined || divisor?.type !== 'constant') return 'possible';
  if (hasOnlyTwosAndFives(divisor.text === '' ? String(by) : divisor.text)) return 'none';
  const of = numberOf(dividend);
  if (of !== undefined && Number.isSafeInteger(of) && of % by === 0) return 'none';
  return at.taker !== undefined && ROUNDED.has(at.taker) ? 'possible' : 'certain';
};

const isSmall = (at: At, node: Node | undefined): boolean => {
  if (node?.type === 'var' && at.scope.keys.has(node.name)) return true;
  const found = followed(at, node);
  const constant = numberOf(found);
  if (constant !== undefined) return Math.abs(constant) < SMALL_END;
  if (found?.type !== 'call') return false;
  const name = builtinOf(at, found);
  if (name === 'count' || name === 'indexof' || name === 'strings.count') return true;
  if (name === 'rem') return isSmall(at, found.args[1]);
  return (name === 'plus' || name === 'minus') && found.args.every((arg) => isSmall(at, arg));
};

const isLarge = (at: At, node: Node | undefined): boolean => {
  const found = followed(at, node);
  const constant = numberOf(found);
  if (constant !== undefined) return Math.abs(constant) >= SMALL_END;
  if (found?.type === 'call') return TIMES.has(builtinOf(at, found) ?? '');
  return found?.type === 'ref' && constantPath(at.program, at.scope, found.parts).join('.') === 'input.time.ns';
};

const formatInt = (at: At, [number]: readonly Node[]): Doubt =>
  isLarge(at, number) ? 'certain' : isSmall(at, number) ? 'none' : 'possible';

const position = (at: At, node: Node | undefined): Doubt => {
  if (node?.type === 'var' && at.scope.keys.has(node.name)) return 'none';
  const found = followed(at, node);
  const constant = numberOf(found);
  // Other fractions are no index on either side.
  if (found?.type === 'constant') return Number.isInteger(constant) && /[.eE]/.test(found.text) ? 'certain' : 'none';
  // What is computed is written without a fraction.
  if (found?.type !== 'call') return 'possible';
  const name = builtinOf(at, found);
  if (name === undefined || ANY_NUMBER.has(name)) return 'possible';
  return at.program.builtins.get(name) === 'number' || name === 'minus' ? 'none' : 'possible';
};

const rounding = (at: At, [node]: readonly Node[]): Doubt => {
  const found = followed(at, node);
  const constant = numberOf(found);
  if (constant !== undefined) return constant > -1 && constant < 0 ? 'certain' : 'none';
  if (node?.type === 'var' && at.scope.keys.has(node.name)) return 'none';
  return found?.type === 'call' && WHOLE.has(builtinOf(at, found) ?? '') ? 'none' : 'possible';
};

const emptyText = (at: At, node: Node | undefined): Doubt => {
  const text = textOf(followed(at, node));
  return text === undefined ? 'possible' : text === '' ? 'certain' : 'none';
};

const escapes = (at: At, [node]: readonly Node[]): Doubt => {
  const text = textOf(followed(at, node));
  if (text !== undefined) return /[<>&\u2028\u2029]/.test(text) ? 'certain' : 'none';
  const kind = kindOf(at.program, at.scope, node);
  return kind === 'number' || kind === 'boolean' || kind === 'null' ? 'none' : 'possible';
};

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

const constantWhere = (at: At, node: Node | undefined, isWhole: (text: string) => boolean): Doubt => {
  const text = textOf(followed(at, node));
  return text === undefined ? 'possible' : isWhole(text) ? 'none' : 'certain';
};

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const BASE64_URL = /^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2}(?:==)?|[A-Za-z0-9_-]{3}=?)?$/;

/** What each built-in may do otherwise. */
const CALLS: Readonly<Record<string, readonly (readonly [DifferenceId, (at: At, args: readonly Node[]) => Doubt])[]>> =
  {
    div: [['last-digits', division]],
    format_int: [['large-format-int', formatInt]],
    substring: [['fraction-index', (at, args) => worst(args.slice(1).map((arg) => position(at, arg)))]],
    'array.slice': [['fraction-index', (at, args) => worst(args.slice(1).map((arg) => position(at, arg)))]],
    ...Object.fromEntries(
      ['and', 'lsh', 'negate', 'or', 'rsh', 'xor'].map((name) => [
        `bits.${name}`,
        [['fraction-index', (at: At, args: readonly Node[]) => worst(args.map((arg) => position(at, arg)))]] as const,
      ]),
    ),
    floor: [['floor-ceil', rounding]],
    ceil: [['floor-ceil', rounding]],
    replace: [['replace-empty', (at, args) => emptyText(at, args[1])]],
    indexof: [['indexof-empty', (at, args) => emptyText(at, args[1])]],
    concat: [['set-order', (at, args) => (args[1]?.type === 'array' ? 'none' : collected(at, args[1]))]],
    'json.marshal': [
      ['json-escapes', escapes],
      ['set-order', (at, args) => collected(at, args[0])],
    ],
    'json.unmarshal': [['lenient-json', (at, args) => constantWhere(at, args[0], isJson)]],
    'json.is_valid': [['lenient-json', (at, args) => constantWhere(at, args[0], isJson)]],
    'base64.decode': [['lenient-base64', (at, args) => constantWhere(at, args[0], (text) => BASE64.test(text))]],
    'base64.is_valid': [['lenient-base64', (at, args) => constantWhere(at, args[0], (text) => BASE64.test(text))]],
    'base64url.decode': [['lenient-base64', (at, args) => constantWhere(at, args[0], (text) => BASE64_URL.test(text))]],
  };

/** A set or an object that becomes a text. */
const collected = (at: At, node: Node | undefined): Doubt => {
  const found = followed(at, node);
  if (found === undefined) return 'none';
  if (found.type !== 'array') return walked(kindOf(at.program, at.scope, found), found);
  return worst(found.items.map((item) => collected(at, item)));
};

/** A number or a text of digits behind `data`, whose place the data do not show to be right. */
const numberKey = ({ program, scope }: At, parts: readonly Node[]): Doubt => {
  for (const [index, part] of parts.entries()) {
    const key = numberOf(part) ?? textOf(part);
    if (index === 0 || key === undefined || (typeof key === 'string' && !/^\d+$/.test(key))) continue;
    const before = parts.slice(0, index);
    const path = constantPath(program, scope, before);
    // Only documents that were given as JSON: what rules make has real keys.
    if (path[0] !== 'data' || path.length < before.length) return 'none';
    if (program.rules.some((rule) => rule.path.every((name, at) => at >= path.length || name === path[at])))
      return 'none';
    const place = kindOf(program, scope, { type: 'ref', parts: before, place: part.place });
    if (place === 'unknown') return 'possible';
    if (place === (typeof key === 'number' ? 'object' : 'array')) return 'certain';
  }
  return 'none';
};

const titleOf = new Map<string, string>(WASM_DIFFERENCES.map(({ id, title }) => [id, title]));

const warningsAt = (at: At, node: Node, assignedTo: string | undefined): readonly PolicyWarning[] => {
  const warn = (id: DifferenceId, doubt: Doubt): readonly PolicyWarning[] =>
    doubt === 'none' ? [] : [{ id, certain: doubt === 'certain', ...node.place, what: titleOf.get(id) ?? id }];
  if (node.type === 'comprehension')
    return node.of !== 'array' || isOrderless(at, node, assignedTo)
      ? []
      : warn('set-order', worst(node.body.flatMap((part) => walkedIn(at, part))));
  if (node.type === 'ref') return warn('number-keys', numberKey(at, node.parts));
  if (node.type !== 'call') return [];
  const name = builtinOf(at, node);
  if (name === undefined || !Object.hasOwn(CALLS, name)) return [];
  return (CALLS[name] ?? []).flatMap(([id, find]) => warn(id, find(at, node.args)));
};

const takersOf = (program: Program, scope: Scope, parts: readonly Node[]): At['takers'] => {
  const takers = new Map<string, (string | undefined)[]>();
  const visit = (node: Node, taker: string | undefined): void => {
    if (node.type === 'var') takers.set(node.name, [...(takers.get(node.name) ?? []), taker]);
    const isAssignment = node.type === 'call' && node.name.join('.') === 'assign';
    for (const [index, child] of childrenOf(node).entries())
      if (!isAssignment || index > 0 || child.type !== 'var')
        visit(child, takerOf({ program, scope }, node, child, index));
  };
  for (const part of parts) visit(part, undefined);
  return takers;
};

const byPlace = (a: PolicyWarning, b: PolicyWarning): number =>
  a.file === b.file ? a.row - b.row || a.col - b.col : a.file < b.file ? -1 : 1;

/** Every construct of the list of differences that the syntax tree shows, in the order of files and rows. */
export const findDifferences = (program: Program): readonly PolicyWarning[] => {
  const found: PolicyWarning[] = [];
  for (const { rule, scope } of program.rules) {
    const parts = partsOf(rule);
    const takers = takersOf(program, scope, parts);
    const visit = (node: Node, taker: string | undefined, assignedTo: string | undefined): void => {
      found.push(...warningsAt({ program, scope, taker, takers }, node, assignedTo));
      const [target] = node.type === 'call' && node.name.join('.') === 'assign' ? node.args : [];
      for (const [index, child] of childrenOf(node).entries()) {
        const name = index === 1 && target?.type === 'var' ? target.name : undefined;
        // A sum that is rounded is rounded with its parts.
        const isSum =
          taker !== undefined && ROUNDED.has(taker) && node.type === 'call' && SUMS.has(node.name.join('.'));
        visit(child, isSum ? taker : takerOf({ program, scope }, node, child, index), name);
      }
    };
    for (const part of parts) visit(part, undefined, undefined);
  }
  return found.sort(byPlace);
};
