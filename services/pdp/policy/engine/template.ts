import { BuiltinError, BuiltinHalt, type Builtins, boundedText, MAX_ITEMS, object, text } from './builtin.ts';
import { queryEncode } from './encoding.ts';
import { goText } from './go-bytes.ts';
import { formatFloat } from './go-float.ts';
import { type FormatArgument, formatGo } from './go-format.ts';
import { type Operand, parseTemplate, type Pipe, type TemplateNode } from './template-parser.ts';
import { compareStrings, isArray, numberText, RegoNumber, type RegoObject, RegoSet, type Value } from './value.ts';
import { MADE, type Spend } from './prices.ts';

const fail = (why: string): never => {
  throw new BuiltinError(why);
};

/** A number of the policy: to a template it is a text. */
class NumberText {
  readonly text: string;
  constructor(digits: string) {
    this.text = digits;
  }
}

/** What a template works on; `undefined` is a missing member. */
type Item =
  undefined | null | boolean | bigint | number | string | NumberText | readonly Item[] | ReadonlyMap<string, Item>;

const itemOf = (value: Value): Item => {
  if (typeof value === 'number' || value instanceof RegoNumber) return new NumberText(numberText(value));
  if (value === null || typeof value !== 'object') return value;
  if (isArray(value)) return value.map(itemOf);
  // OPA gives templates JSON only.
  if (value instanceof RegoSet) return fail('a set in the values of a template');
  return new Map(value.entries.map(([key, member]) => [text(key), itemOf(member)]));
};

const isList = (item: Item): item is readonly Item[] => Array.isArray(item);
const isMap = (item: Item): item is ReadonlyMap<string, Item> => item instanceof Map;

/** As Go prints a value: `map[a:1 b:[x y]]`. */
const shown = (item: Item): string => {
  if (item === undefined || item === null) return '<nil>';
  if (typeof item === 'number') return formatFloat(item, 'g', -1);
  if (item instanceof NumberText) return item.text;
  if (isList(item)) return `[${item.map(shown).join(' ')}]`;
  if (!isMap(item)) return String(item);
  const keys = [...item.keys()].sort(compareStrings);
  return `map[${keys.map((key) => `${key}:${shown(item.get(key))}`).join(' ')}]`;
};

const isTrue = (item: Item): boolean => {
  if (item instanceof NumberText) return true;
  if (isMap(item)) return item.size > 0;
  return isList(item) ? item.length > 0 : Boolean(item);
};

const plain = (item: Item): Item => (item instanceof NumberText ? item.text : item);

const isEqual = (a: Item, b: Item): boolean => {
  const [x, y] = [plain(a), plain(b)];
  const isNothing = (item: Item): boolean => item === undefined || item === null;
  if (isNothing(x) || isNothing(y)) return isNothing(x) && isNothing(y);
  if (typeof x !== typeof y || typeof x === 'object') return fail('what cannot be compared');
  return x === y;
};

const isLess = (a: Item, b: Item): boolean => {
  const [x, y] = [plain(a), plain(b)];
  if (typeof x === 'string' && typeof y === 'string') return compareStrings(x, y) < 0;
  if (typeof x === 'bigint' && typeof y === 'bigint') return x < y;
  return typeof x === 'number' && typeof y === 'number' ? x < y : fail('what has no order');
};

const lengthOf = (item: Item): bigint => {
  const value = plain(item);
  if (typeof value === 'string') return BigInt(Buffer.byteLength(value));
  if (isMap(value)) return BigInt(value.size);
  return isList(value) ? BigInt(value.length) : fail('what has no length');
};

const indexed = (item: Item, index: Item): Item => {
  if (isMap(item)) return typeof index === 'string' ? (item.get(index) ?? null) : fail('a key expected');
  if (typeof index !== 'bigint' || index < 0n || index >= lengthOf(item)) return fail('no such index');
  const value = plain(item);
  return isList(value)
    ? value[Number(index)]
    : BigInt(Buffer.from(typeof value === 'string' ? value : '')[Number(index)] ?? 0);
};

const sliced = (item: Item, bounds: readonly Item[]): Item => {
  const value = plain(item);
  const length = lengthOf(value);
  const indexes = bounds.map((bound) => (typeof bound === 'bigint' ? bound : fail('an index expected')));
  // The third, the capacity of the part, has no effect on what is shown.
  const [start = 0n, end = length, capacity = length] = indexes;
  if (indexes.length > 3 || start < 0n || start > end || end > capacity || capacity > length)
    return fail('no such part');
  if (isList(value)) return value.slice(Number(start), Number(end));
  if (typeof value !== 'string' || indexes.length === 3) return fail('what has no parts');
  return goText(Buffer.from(value).subarray(Number(start), Number(end)));
};

const isString = (item: Item): boolean => typeof item === 'string' || item instanceof NumberText;

/** A blank between two values of which neither is a text. */
const sprint = (items: readonly Item[]): string =>
  items.map((item, i) => (i > 0 && !isString(item) && !isString(items[i - 1]) ? ' ' : '') + shown(item)).join('');

const HTML: Readonly<Record<string, string>> = {
  '"': '&#34;',
  "'": '&#39;',
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '\0': '\ufffd',
};

const escapeHtml = (value: string): string => value.replace(/["'&<>\0]/g, (character) => HTML[character] ?? character);

const formatArgument = (item: Item): FormatArgument =>
  typeof item === 'bigint' || typeof item === 'number' || typeof item === 'boolean' ? item : shown(item);

const call = (name: string, args: readonly Item[], spend: Spend): Item => {
  const [first, second] = args;
  const arity = (least: number, most = least): void => {
    if (args.length < least || args.length > most) fail(`wrong number of arguments for ${name}`);
  };
  switch (name) {
    case 'not':
      arity(1);
      return !isTrue(first);
    case 'len':
      arity(1);
      return lengthOf(first);
    case 'index':
      arity(1, Infinity);
      if (first === undefined || first === null) return fail('an index of nothing');
      return args.slice(1).reduce(indexed, first);
    case 'slice':
      arity(1, 4);
      return sliced(first, args.slice(1));
    case 'print':
      return sprint(args);
    case 'println':
      return `${args.map(shown).join(' ')}\n`;
    case 'printf':
      return formatGo(
        typeof first === 'string' ? first : fail('a format expected'),
        args.slice(1).map(formatArgument),
        spend,
      );
    case 'html':
      return escapeHtml(sprint(args));
    case 'urlquery':
      return queryEncode(sprint(args));
    case 'eq':
      arity(2, Infinity);
      return args.slice(1).some((arg) => isEqual(first, arg));
    case 'ne':
      arity(2);
      return !isEqual(first, second);
    case 'lt':
      arity(2);
      return isLess(first, second);
    case 'le':
      arity(2);
      return isLess(first, second) || isEqual(first, second);
    case 'gt':
      arity(2);
      return !isLess(first, second) && !isEqual(first, second);
    default:
      arity(2);
      return !isLess(first, second);
  }
};

const fieldsOf = (item: Item, fields: readonly string[]): Item => {
  let value = item;
  for (const field of fields) {
    if (value === undefined) return undefined;
    value = isMap(value) ? value.get(field) : fail('no members');
  }
  return value;
};

type Signal = 'done' | 'break' | 'continue';

class Renderer {
  private out = '';
  private steps = 0;
  /** Innermost last. */
  private readonly variables: { readonly name: string; value: Item }[];

  private readonly spend: Spend;

  constructor(root: Item, spend: Spend) {
    this.spend = spend;
    this.variables = [{ name: '$', value: root }];
  }

  result(): string {
    return this.out.replaceAll('<no value>', '<undefined>');
  }

  private variable(name: string): { value: Item } {
    return this.variables.findLast((variable) => variable.name === name) ?? fail('an unknown variable');
  }

  private operand(operand: Operand, dot: Item): Item {
    switch (operand.kind) {
      case 'dot':
        return dot;
      case 'nil':
        return null;
      case 'literal':
        return operand.value;
      case 'variable':
        return fieldsOf(this.variable(operand.name).value, operand.fields);
      case 'field':
        return fieldsOf(dot, operand.fields);
      case 'pipe':
        return fieldsOf(this.pipe(operand.pipe, dot), operand.fields);
      case 'function':
        return this.command([operand], dot, []);
      default:
        return operand satisfies never;
    }
  }

  private call(name: string, args: readonly Item[]): Item {
    const value = call(name, args, this.spend);
    // What is not written may be put together again and again.
    if (typeof value === 'string') this.spend(value.length);
    return value;
  }

  private command(command: readonly Operand[], dot: Item, last: readonly Item[]): Item {
    const [head, ...rest] = command;
    if (head === undefined) return undefined;
    if (head.kind !== 'function') {
      if (rest.length > 0 || head.kind === 'nil') fail('arguments for what is no function');
      return this.operand(head, dot);
    }
    if (head.name !== 'and' && head.name !== 'or')
      return this.call(head.name, [...rest.map((operand) => this.operand(operand, dot)), ...last]);
    let value: Item;
    if (rest.length + last.length === 0) fail('an argument expected');
    for (const operand of rest) {
      value = this.operand(operand, dot);
      if (isTrue(value) === (head.name === 'or')) return value;
    }
    return last.length === 0 ? value : last[0];
  }

  private pipe(pipe: Pipe, dot: Item, declares = true): Item {
    let last: readonly Item[] = [];
    for (const command of pipe.commands) last = [this.command(command, dot, last)];
    const [value] = last;
    if (declares)
      for (const name of pipe.variables) {
        if (pipe.isAssignment) this.variable(name).value = value;
        else this.variables.push({ name, value });
      }
    return value;
  }

  walk(nodes: readonly TemplateNode[], dot: Item): Signal {
    const mark = this.variables.length;
    try {
      for (const node of nodes) {
        const signal = this.node(node, dot);
        if (signal !== 'done') return signal;
      }
      return 'done';
    } finally {
      this.variables.length = mark;
    }
  }

  private write(written: string): void {
    this.spend(written.length);
    this.out = boundedText(this.out + written);
  }

  private step(): void {
    this.steps += 1;
    this.spend(MADE.templateStep);
    if (this.steps > MAX_ITEMS) throw new BuiltinHalt('a template of too many steps');
  }

  private node(node: TemplateNode, dot: Item): Signal {
    this.step();
    switch (node.kind) {
      case 'text':
        this.write(node.text);
        return 'done';
      case 'print': {
        const value = this.pipe(node.pipe, dot);
        if (node.pipe.variables.length === 0)
          this.write(value === undefined || value === null ? '<no value>' : shown(value));
        return 'done';
      }
      case 'break':
      case 'continue':
        return node.kind;
      default: {
        const mark = this.variables.length;
        const signal = node.kind === 'range' ? this.range(node.pipe, node.body, dot) : this.branch(node, dot);
        const result = signal ?? (node.otherwise === undefined ? 'done' : this.walk(node.otherwise, dot));
        this.variables.length = mark;
        return result;
      }
    }
  }

  /** `undefined` when the other branch is to be taken. */
  private branch(node: Extract<TemplateNode, { pipe: Pipe; body: unknown }>, dot: Item): Signal | undefined {
    const value = this.pipe(node.pipe, dot);
    return isTrue(value) ? this.walk(node.body, node.kind === 'with' ? value : dot) : undefined;
  }

  private range(pipe: Pipe, body: readonly TemplateNode[], dot: Item): Signal | undefined {
    const mark = this.variables.length;
    let isEmpty = true;
    for (const [key, value] of rangeOf(this.pipe(pipe, dot, false), pipe.variables.length)) {
      isEmpty = false;
      this.step();
      const values = pipe.variables.length === 2 ? [key, value] : [value];
      for (const [index, name] of pipe.variables.entries()) {
        if (pipe.isAssignment) this.variable(name).value = values[index];
        else this.variables.push({ name, value: values[index] });
      }
      const signal = this.walk(body, value);
      this.variables.length = mark;
      if (signal === 'break') break;
    }
    return isEmpty ? undefined : 'done';
  }
}

/** Index and element, or key and member in the order of the keys. */
function* rangeOf(item: Item, variables: number): Generator<readonly [Item, Item]> {
  if (item === undefined || item === null) return;
  if (isList(item)) for (const [index, element] of item.entries()) yield [BigInt(index), element];
  else if (isMap(item)) for (const key of [...item.keys()].sort(compareStrings)) yield [key, item.get(key)];
  else if (typeof item === 'bigint' && variables < 2) for (let i = 0n; i < item; i += 1n) yield [undefined, i];
  else fail('no range');
}

const render = (spend: Spend, template: string, values: RegoObject): string => {
  const root = itemOf(values);
  const renderer = new Renderer(root, spend);
  renderer.walk(parseTemplate(template), root);
  return renderer.result();
};

export const templateBuiltins: Builtins = {
  'strings.render_template': ({ spend }, template, values) => render(spend, text(template), object(values)),
};
