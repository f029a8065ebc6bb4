import { isObject } from '../../shared/contracts/json.ts';
import {
  countOf,
  Draft,
  entriesOf,
  isDocumentObject,
  isTooDeep,
  MAX_DOCUMENT_DEPTH,
  memberOf,
  type Document,
} from './document.ts';
import { formatPointer, isPathPrefix, parsePointer, type DataPath } from './json-pointer.ts';
import { WideObject } from './wide-object.ts';

/** Why a patch, or a push, cannot be done on the document as it is. */
export class PatchConflict extends Error {
  /** JSON pointer to what it is about. */
  readonly pointer: string;
  constructor(path: DataPath, message: string) {
    super(`${path.length === 0 ? 'the document' : formatPointer(path)} ${message}`);
    this.pointer = formatPointer(path);
  }
}

/** One operation of RFC 6902, its pointers parsed. */
export type PatchOperation =
  | { readonly op: 'add' | 'replace' | 'test'; readonly path: DataPath; readonly value: Document }
  | { readonly op: 'remove'; readonly path: DataPath }
  | { readonly op: 'move' | 'copy'; readonly path: DataPath; readonly from: DataPath };

const MAX_OPERATIONS = 1_000;
/** Characters of JSON: a document that is copied into itself again and again doubles each time. */
const MAX_COPIED = 4 * 1024 * 1024;
/** Members of objects that the tests of one patch look at: some 100 ms. */
const MAX_COMPARED = 1_000_000;

const INDEX = /^(0|[1-9]\d{0,9})$/;

const fail = (path: DataPath, message: string): never => {
  throw new PatchConflict(path, message);
};

/** The member or element `name`, or undefined. */
const childOf = (container: Document, name: string): { readonly value: Document } | undefined => {
  if (Array.isArray(container)) {
    const elements: readonly unknown[] = container;
    return INDEX.test(name) && Number(name) < elements.length ? { value: elements[Number(name)] } : undefined;
  }
  return isDocumentObject(container) ? memberOf(container, name) : undefined;
};

/** What stands at `path`, or undefined. */
export const valueAt = (document: Document, path: DataPath): { readonly value: Document } | undefined => {
  let found: { readonly value: Document } | undefined = { value: document };
  for (const name of path) {
    found = childOf(found.value, name);
    if (found === undefined) return undefined;
  }
  return found;
};

type Container = unknown[] | Record<string, unknown> | Draft;

/** A document that is being patched. */
interface Patched {
  document: Document;
  /** Copies that this patch made, each in one place only: they may be changed, and nothing else may. */
  readonly owned: WeakSet<Container>;
  /** UTF-16 units of JSON. */
  copied: number;
  compared: number;
}

/** The container itself when the patch owns it, else a copy that it owns. */
const ownedOf = ({ owned }: Patched, found: Document, at: DataPath): Container => {
  if (!Array.isArray(found) && !isObject(found)) return fail(at, 'is neither object nor array');
  const container: unknown[] | Record<string, unknown> | Draft = found;
  if (owned.has(container)) return container;
  const copy =
    container instanceof WideObject ? new Draft(container) : isObject(container) ? { ...container } : [...container];
  owned.add(copy);
  return copy;
};

const setChild = (container: Container, name: string, value: Document): void => {
  if (Array.isArray(container)) container[Number(name)] = value;
  else if (container instanceof Draft) container.set(name, { value });
  // A member of its own, whatever the name: an assignment to `__proto__` makes none.
  else Object.defineProperty(container, name, { value, writable: true, enumerable: true, configurable: true });
};

/**
 * The container in which the end of `path` stands, ready to be changed. Each container on the way is copied once a
 * patch, not once an operation: a large list costs as much as the patch has members.
 */
const containerOf = (patched: Patched, path: DataPath): Container => {
  let container = ownedOf(patched, patched.document, []);
  patched.document = container;
  for (let depth = 1; depth < path.length; depth += 1) {
    const here = path.slice(0, depth);
    const name = path[depth - 1] ?? '';
    const child = childOf(container, name) ?? fail(here, 'does not exist');
    const below = ownedOf(patched, child.value, here);
    if (below !== child.value) setChild(container, name, below);
    container = below;
  }
  return container;
};

const add = (patched: Patched, path: DataPath, value: Document): void => {
  const name = path.at(-1);
  if (name === undefined) {
    patched.document = value;
    return;
  }
  if (path.length >= MAX_DOCUMENT_DEPTH) fail([], `may be nested ${MAX_DOCUMENT_DEPTH} deep`);
  const container = containerOf(patched, path);
  if (!Array.isArray(container)) return setChild(container, name, value);
  const index = name === '-' ? container.length : INDEX.test(name) ? Number(name) : -1;
  if (index < 0 || index > container.length) fail(path, 'is no place in the array');
  container.splice(index, 0, value);
};

const replace = (patched: Patched, path: DataPath, value: Document): void => {
  const name = path.at(-1);
  if (name === undefined) {
    patched.document = value;
    return;
  }
  const container = containerOf(patched, path);
  if (childOf(container, name) === undefined) fail(path, 'does not exist');
  setChild(container, name, value);
};

const remove = (patched: Patched, path: DataPath): void => {
  const name = path.at(-1);
  if (name === undefined) return fail(path, 'cannot be removed by a patch');
  const container = containerOf(patched, path);
  if (childOf(container, name) === undefined) fail(path, 'does not exist');
  if (Array.isArray(container)) container.splice(Number(name), 1);
  else if (container instanceof Draft) container.set(name, undefined);
  else Reflect.deleteProperty(container, name);
};

/**
 * Whether two JSON documents say the same: numbers by value, members in any order (RFC 6902, 4.6). `spend` is told how
 * many members are looked at: those of a large object are listed even when the other one has none.
 */
const isSame = (a: Document, b: Document, spend: (members: number) => void): boolean => {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) {
    const other: readonly unknown[] = b;
    return a.length === b.length && a.every((element, index) => isSame(element, other[index], spend));
  }
  if (!isDocumentObject(a) || !isDocumentObject(b)) return false;
  const count = countOf(a);
  spend(count);
  if (count !== countOf(b)) return false;
  for (const [name, member] of entriesOf(a)) {
    const other = memberOf(b, name);
    if (other === undefined || !isSame(member, other.value, spend)) return false;
  }
  return true;
};

const read = (document: Document, path: DataPath): Document =>
  (valueAt(document, path) ?? fail(path, 'does not exist')).value;

const testOne = (patched: Patched, path: DataPath, value: Document): void => {
  const spend = (members: number): void => {
    patched.compared += members;
    if (patched.compared > MAX_COMPARED) fail(path, 'would get too much compared');
  };
  if (!isSame(read(patched.document, path), value, spend)) fail(path, 'is not what the test says');
};

/** A plain copy that shares nothing with what was copied: a later operation may change either. */
const copyOf = (patched: Patched, found: Document, path: DataPath): Document => {
  if (isTooDeep(found)) fail(path, `would be nested more than ${MAX_DOCUMENT_DEPTH} deep`);
  const json = JSON.stringify(found);
  patched.copied += json.length;
  if (patched.copied > MAX_COPIED) fail(path, 'would get too much copied');
  return JSON.parse(json);
};

const isInList = (document: Document, path: DataPath): boolean => {
  let found: { readonly value: Document } | undefined = { value: document };
  for (const name of path) {
    if (found === undefined || Array.isArray(found.value)) break;
    found = childOf(found.value, name);
  }
  return Array.isArray(found?.value);
};

const applyOne = (patched: Patched, operation: PatchOperation): void => {
  const { path } = operation;
  switch (operation.op) {
    case 'add':
      return add(patched, path, operation.value);
    case 'replace':
      return replace(patched, path, operation.value);
    case 'remove':
      return remove(patched, path);
    case 'test':
      return testOne(patched, path, operation.value);
    case 'copy':
      return add(patched, path, copyOf(patched, read(patched.document, operation.from), path));
    case 'move': {
      const { from } = operation;
      if (from.length < path.length && isPathPrefix(from, path)) fail(path, 'lies inside what is moved');
      const moved = read(patched.document, from);
      if (from.length === 0) return;
      remove(patched, from);
      // What stands in a list is plain.
      return add(patched, path, isInList(patched.document, path) ? copyOf(patched, moved, path) : moved);
    }
    default:
      return operation satisfies never;
  }
};

/**
 * JSON Patch (RFC 6902): all operations in order, or `PatchConflict` and nothing. Changes neither argument. What comes
 * out is to be `sealed`.
 */
export const applyPatch = (document: Document, operations: readonly PatchOperation[]): Document => {
  const patched: Patched = { document, owned: new WeakSet(), copied: 0, compared: 0 };
  for (const operation of operations) applyOne(patched, operation);
  return patched.document;
};

export interface PatchProblem {
  /** RFC 6901, into the patch. */
  readonly pointer: string;
  readonly code: string;
  readonly message: string;
}

const isKnownOp = (op: unknown): op is PatchOperation['op'] =>
  typeof op === 'string' && ['add', 'remove', 'replace', 'move', 'copy', 'test'].includes(op);

const pathMember = (
  operation: Readonly<Record<string, unknown>>,
  member: 'path' | 'from',
  at: string,
  problems: PatchProblem[],
): DataPath => {
  const text = operation[member];
  const path = typeof text === 'string' ? parsePointer(text) : undefined;
  if (path === undefined)
    problems.push({ pointer: `${at}/${member}`, code: 'wrong_value', message: 'must be a JSON pointer' });
  return path ?? [];
};

const parseOperation = (value: unknown, at: string, problems: PatchProblem[]): PatchOperation | undefined => {
  if (!isObject(value)) {
    problems.push({ pointer: at, code: 'wrong_type', message: 'must be object' });
    return undefined;
  }
  const { op } = value;
  if (!isKnownOp(op)) {
    const message = 'must be add, remove, replace, move, copy or test';
    problems.push({ pointer: `${at}/op`, code: 'wrong_value', message });
    return undefined;
  }
  const path = pathMember(value, 'path', at, problems);
  if (op === 'remove') return { op, path };
  if (op === 'move' || op === 'copy') return { op, path, from: pathMember(value, 'from', at, problems) };
  if (!Object.hasOwn(value, 'value'))
    problems.push({ pointer: `${at}/value`, code: 'missing', message: 'is required' });
  return { op, path, value: value['value'] };
};

/** Reads a parsed patch: a list of at most 1,000 operations. Members that RFC 6902 does not know are ignored, as it says. */
export const parsePatch = (
  value: unknown,
):
  | { readonly ok: true; readonly operations: readonly PatchOperation[] }
  | { readonly ok: false; readonly problems: readonly PatchProblem[] } => {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_OPERATIONS) {
    const message = `must be a list of 1 to ${MAX_OPERATIONS} operations (RFC 6902)`;
    return { ok: false, problems: [{ pointer: '', code: 'wrong_value', message }] };
  }
  const problems: PatchProblem[] = [];
  const operations = value.flatMap((item: unknown, index) => parseOperation(item, `/${index}`, problems) ?? []);
  return problems.length > 0 ? { ok: false, problems: problems.slice(0, 64) } : { ok: true, operations };
};
