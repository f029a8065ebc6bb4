import { isObject } from '../../shared/contracts/json.ts';
import { formatPointer, isPathPrefix, parsePointer, type DataPath } from './json-pointer.ts';

/** A JSON document that is never changed: what a patch leaves alone stays the same object in the patched one. */
export type Document = unknown;

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
/** Containers inside each other in a document that is patched, itself counted. */
export const MAX_DOCUMENT_DEPTH = 64;

export const isTooDeep = (value: unknown, depth = MAX_DOCUMENT_DEPTH): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (depth === 0 || Object.values(value).some((member) => isTooDeep(member, depth - 1)));
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
  return isObject(container) && Object.hasOwn(container, name) ? { value: container[name] } : undefined;
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

type Change = (container: readonly unknown[] | Readonly<Record<string, unknown>>, name: string) => Document;

/** The document with the container of `path`'s end replaced by what `change` makes of it. */
const changedAt = (document: Document, path: DataPath, change: Change, depth = 0): Document => {
  const name = path[depth];
  if (name === undefined) throw new TypeError('a change needs a path');
  const here = path.slice(0, depth);
  if (!Array.isArray(document) && !isObject(document)) return fail(here, 'is neither object nor array');
  const container: readonly unknown[] | Readonly<Record<string, unknown>> = document;
  if (depth === path.length - 1) return change(container, name);
  const child = childOf(container, name) ?? fail(path.slice(0, depth + 1), 'does not exist');
  const changed = changedAt(child.value, path, change, depth + 1);
  // A computed name makes a member of its own, whatever the name.
  return isObject(container) ? { ...container, [name]: changed } : container.with(Number(name), changed);
};

const add = (document: Document, path: DataPath, value: Document): Document =>
  path.length === 0
    ? value
    : path.length >= MAX_DOCUMENT_DEPTH
      ? fail([], `may be nested ${MAX_DOCUMENT_DEPTH} deep`)
      : changedAt(document, path, (container, name) => {
          if (isObject(container)) return { ...container, [name]: value };
          const index = name === '-' ? container.length : INDEX.test(name) ? Number(name) : -1;
          if (index < 0 || index > container.length) return fail(path, 'is no place in the array');
          return container.toSpliced(index, 0, value);
        });

const replace = (document: Document, path: DataPath, value: Document): Document =>
  path.length === 0
    ? value
    : changedAt(document, path, (container, name) => {
        if (childOf(container, name) === undefined) return fail(path, 'does not exist');
        return isObject(container) ? { ...container, [name]: value } : container.with(Number(name), value);
      });

const remove = (document: Document, path: DataPath): Document =>
  path.length === 0
    ? fail(path, 'cannot be removed by a patch')
    : changedAt(document, path, (container, name) => {
        if (childOf(container, name) === undefined) return fail(path, 'does not exist');
        if (!isObject(container)) return container.toSpliced(Number(name), 1);
        const { [name]: _removed, ...others } = container;
        return others;
      });

/** Whether two JSON documents say the same: numbers by value, members in any order (RFC 6902, 4.6). */
const isSame = (a: Document, b: Document): boolean => {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) {
    const other: readonly unknown[] = b;
    return a.length === b.length && a.every((element, index) => isSame(element, other[index]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]))
  );
};

const read = (document: Document, path: DataPath): Document =>
  (valueAt(document, path) ?? fail(path, 'does not exist')).value;

const applyOne = (document: Document, operation: PatchOperation, spent: { copied: number }): Document => {
  const { path } = operation;
  switch (operation.op) {
    case 'add':
      return add(document, path, operation.value);
    case 'replace':
      return replace(document, path, operation.value);
    case 'remove':
      return remove(document, path);
    case 'test':
      return isSame(read(document, path), operation.value) ? document : fail(path, 'is not what the test says');
    case 'copy': {
      const copied = read(document, operation.from);
      if (isTooDeep(copied)) return fail(path, `would be nested more than ${MAX_DOCUMENT_DEPTH} deep`);
      spent.copied += JSON.stringify(copied).length;
      return spent.copied > MAX_COPIED ? fail(path, 'would get too much copied') : add(document, path, copied);
    }
    case 'move': {
      const { from } = operation;
      if (from.length < path.length && isPathPrefix(from, path)) return fail(path, 'lies inside what is moved');
      const moved = read(document, from);
      return from.length === 0 ? document : add(remove(document, from), path, moved);
    }
    default:
      return operation satisfies never;
  }
};

/** JSON Patch (RFC 6902): all operations in order, or `PatchConflict` and nothing. */
export const applyPatch = (document: Document, operations: readonly PatchOperation[]): Document => {
  const spent = { copied: 0 };
  return operations.reduce((before, operation) => applyOne(before, operation, spent), document);
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
