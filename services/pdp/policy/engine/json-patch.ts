import { array, BuiltinError, BuiltinHalt, integer, MAX_ITEMS, object, text } from './builtin.ts';
import { identityOf } from './value-identity.ts';
import { MAX_VALUE_DEPTH } from './value-text.ts';
import { compareValues, isArray, RegoNumber, RegoObject, RegoSet, type Value } from './value.ts';
import { MADE, type Spend } from './prices.ts';

/*
 * A document that a patch changes in place. What it does not touch stays a value; what it goes through becomes a node.
 * OPA works this way too, and one effect of it can be seen: the elements of an array that a path goes through are
 * looked up where they stood before the patch, even when elements before them were added or removed since.
 */

const fail = (why: string): never => {
  throw new BuiltinError(why);
};

interface Size {
  readonly values: number;
  readonly depth: number;
}

/** How many values, long texts counting for more, and how deep. */
const sizeOf = (value: Value): Size => {
  if (typeof value === 'string') return { values: 1 + (value.length >> 4), depth: 1 };
  if (value === null || typeof value !== 'object' || value instanceof RegoNumber) return { values: 1, depth: 1 };
  const parts = isArray(value) ? value : value instanceof RegoSet ? value.items : value.entries.flat();
  let [values, depth] = [1, 0];
  for (const part of parts) {
    const size = sizeOf(part);
    values += size.values;
    depth = Math.max(depth, size.depth);
  }
  return { values, depth: depth + 1 };
};

const sizesOf = (values: readonly Value[]): number =>
  values.reduce<number>((sum, value) => sum + sizeOf(value).values, 0);

/** To know values by their texts. */
const identityCost = (values: readonly Value[]): number => sizesOf(values) * MADE.identified;
/** To put as many of them in order; each comparison may look at all of both. */
const orderCost = (values: readonly Value[]): number =>
  sizesOf(values) * MADE.ordered * Math.ceil(Math.log2(values.length + 1));

class ObjectNode {
  private readonly members = new Map<string, { readonly key: Value; readonly value: Value | Node }>();
  private readonly spend: Spend;

  constructor(value: RegoObject, spend: Spend) {
    this.spend = spend;
    spend(identityCost(value.entries.map(([key]) => key)));
    for (const [key, member] of value.entries) this.members.set(identityOf(key), { key, value: member });
  }

  child(key: Value): Value | Node {
    const identity = identityOf(key);
    const member = this.members.get(identity) ?? fail('no such member');
    const node = nodeOf(member.value, this.spend);
    this.members.set(identity, { key: member.key, value: node });
    return node;
  }

  insert(key: Value, value: Value): void {
    this.members.set(identityOf(key), { key, value });
  }

  remove(key: Value): void {
    if (!this.members.delete(identityOf(key))) fail('no such member');
  }

  render(): Value {
    const members = [...this.members.values()];
    this.spend(orderCost(members.map(({ key }) => key)));
    return RegoObject.of(members.map(({ key, value }) => [key, render(value)]));
  }
}

class SetNode {
  private members = new Map<string, Value | Node>();
  private readonly spend: Spend;

  constructor(value: RegoSet, spend: Spend) {
    this.spend = spend;
    this.fill(value.items);
  }

  private fill(items: readonly Value[]): void {
    this.spend(identityCost(items));
    this.members = new Map(items.map((item) => [identityOf(item), item]));
  }

  /** A member that was changed is another one from now on. */
  private settle(key: Value): void {
    const isComposite = key !== null && typeof key === 'object' && !(key instanceof RegoNumber);
    if (isComposite && [...this.members.values()].some(isNode)) this.fill(this.render().items);
  }

  child(key: Value): Value | Node {
    this.settle(key);
    const identity = identityOf(key);
    const member = this.members.get(identity) ?? (this.members.has(identity) ? null : fail('no such member'));
    const node = nodeOf(member, this.spend);
    this.members.set(identity, node);
    return node;
  }

  insert(key: Value, value: Value): void {
    if (compareValues(key, value) !== 0) fail('a member of a set is its own key');
    this.settle(key);
    this.members.set(identityOf(key), value);
  }

  remove(key: Value): void {
    this.settle(key);
    if (!this.members.delete(identityOf(key))) fail('no such member');
  }

  render(): RegoSet {
    const members = [...this.members.values()].map(render);
    this.spend(orderCost(members));
    return RegoSet.of(members);
  }
}

class ArrayNode {
  private readonly original: readonly Value[];
  private readonly elements: { readonly value: Value | Node; readonly isOriginal: boolean }[];
  private readonly spend: Spend;

  constructor(value: readonly Value[], spend: Spend) {
    this.spend = spend;
    spend(value.length * MADE.element);
    this.original = value;
    this.elements = value.map((element) => ({ value: element, isOriginal: true }));
  }

  /** An index as a number or as digits without zeros before them; `-` stands behind the last element. */
  private indexOf(key: Value): number {
    if (key === '-') return this.elements.length;
    if (typeof key !== 'string') return Number(integer(key));
    if (key !== '0' && key.startsWith('0')) fail('an index with a leading zero');
    if (!/^[+-]?\d{1,19}(?:\.0*)?$|^[+-]?\.0+$/.test(key)) fail('no index');
    return Number(key);
  }

  child(key: Value): Value | Node {
    const index = this.indexOf(key);
    const element = this.elements[index];
    const node = nodeOf(element?.isOriginal === false ? element.value : this.originalAt(index), this.spend);
    if (element === undefined) return fail('no such element');
    this.elements[index] = { value: node, isOriginal: false };
    return node;
  }

  private originalAt(index: number): Value {
    const element = this.original[index];
    return element === undefined ? fail('no such element') : element;
  }

  insert(key: Value, value: Value): void {
    const index = this.indexOf(key);
    if (index < 0 || index > this.elements.length) fail('no such element');
    this.elements.splice(index, 0, { value, isOriginal: false });
  }

  remove(key: Value): void {
    const index = this.indexOf(key);
    if (index < 0 || index >= this.elements.length) fail('no such element');
    this.elements.splice(index, 1);
  }

  render(): Value {
    this.spend(this.elements.length * MADE.element);
    return this.elements.map(({ value }) => render(value));
  }
}

type Node = ObjectNode | SetNode | ArrayNode;

const isNode = (value: Value | Node): value is Node =>
  value instanceof ObjectNode || value instanceof SetNode || value instanceof ArrayNode;

const render = (value: Value | Node): Value => (isNode(value) ? value.render() : value);

const nodeOf = (value: Value | Node, spend: Spend): Value | Node => {
  if (isNode(value) || value === null || typeof value !== 'object' || value instanceof RegoNumber) return value;
  if (isArray(value)) return new ArrayNode(value, spend);
  return value instanceof RegoObject ? new ObjectNode(value, spend) : new SetNode(value, spend);
};

type Path = readonly Value[];

/** A JSON pointer (RFC 6901), with or without a slash before it, or its segments as any values. */
const pathOf = (value: Value | undefined): Path => {
  if (typeof value !== 'string') return array(value);
  if (value === '') return [];
  return value
    .replace(/^\/+/, '')
    .split('/')
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
};

class Document {
  private root: Value | Node | undefined;
  private inserted = 0;

  private readonly spend: Spend;

  constructor(value: Value, spend: Spend) {
    this.root = value;
    this.spend = spend;
  }

  private nodeAt(path: Path): Value | Node {
    if (this.root === undefined) return fail('the document was removed');
    this.root = nodeOf(this.root, this.spend);
    let node = this.root;
    for (const key of path) node = isNode(node) ? node.child(key) : fail('neither object, set nor array');
    return node;
  }

  /** The node that holds the path's end, and the path's last segment. */
  private holderOf(path: Path): readonly [holder: Node, key: Value] {
    const holder = this.nodeAt(path.slice(0, -1));
    const key = path.at(-1);
    return isNode(holder) && key !== undefined ? [holder, key] : fail('neither object, set nor array');
  }

  read(path: Path): Value {
    return render(this.nodeAt(path));
  }

  /** Whether the value stands there: no more of either is looked at than the value has. */
  isAt(path: Path, value: Value): boolean {
    this.spend(sizeOf(value).values * MADE.ordered);
    return compareValues(this.read(path), value) === 0;
  }

  insert(path: Path, value: Value): void {
    const { values, depth } = sizeOf(value);
    // A document that is copied into itself again and again doubles each time.
    this.inserted += values;
    this.spend(values * MADE.patched);
    if (this.inserted > MAX_ITEMS || path.length + depth > MAX_VALUE_DEPTH)
      throw new BuiltinHalt('a patch that makes too large a document');
    if (path.length === 0) {
      this.root = value;
      return;
    }
    const [holder, key] = this.holderOf(path);
    holder.insert(key, value);
  }

  remove(path: Path): void {
    if (path.length === 0) {
      if (this.root === undefined) fail('the document was removed');
      this.root = undefined;
      return;
    }
    const [holder, key] = this.holderOf(path);
    holder.remove(key);
  }
}

const required = (operation: RegoObject, name: string): Value => {
  const value = operation.get(name);
  return value === undefined ? fail(`${name} is missing`) : value;
};

const apply = (document: Document, operation: RegoObject): void => {
  const path = pathOf(required(operation, 'path'));
  switch (text(operation.get('op'))) {
    case 'add':
      document.insert(path, required(operation, 'value'));
      return;
    case 'remove':
      document.remove(path);
      return;
    case 'replace':
      document.remove(path);
      document.insert(path, required(operation, 'value'));
      return;
    case 'move': {
      const from = pathOf(required(operation, 'from'));
      const moved = document.read(from);
      document.remove(from);
      document.insert(path, moved);
      return;
    }
    case 'copy':
      document.insert(path, document.read(pathOf(required(operation, 'from'))));
      return;
    case 'test':
      if (!document.isAt(path, required(operation, 'value'))) fail('the test fails');
      return;
    default:
      fail('an unknown operation');
  }
};

/** JSON Patch (RFC 6902), on sets too. Throws `BuiltinError` when an operation cannot be done. */
export const patchJson = (spend: Spend, value: Value, operations: readonly Value[]): Value => {
  const document = new Document(value, spend);
  for (const operation of operations) apply(document, object(operation));
  return document.read([]);
};
