import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalBytesOf } from './canonical-document.ts';
import { isArray, RegoObject, RegoSet, type RegoNumber, type Value } from './engine/value.ts';

/** A JSON document that is changed in place. Numbers keep their text. */
type Tree = Map<string, Tree> | Tree[] | null | boolean | number | RegoNumber | string;

/** One operation of a delta (OPA, v1/bundle/store.go, `applyPatches`). */
export type DataOperation =
  | { readonly op: 'upsert' | 'replace'; readonly path: readonly string[]; readonly value: Value }
  | { readonly op: 'remove'; readonly path: readonly string[] };

const MAX_OPERATIONS = 10_000;
const MAX_DEPTH = 64;
const INDEX = /^(0|[1-9]\d{0,9})$/;

const refuse = (at: number, message: string): never => {
  throw new AppError('bundle_invalid', `patch.json: operation ${at} ${message}`);
};

/** As OPA: outer slashes do not count, names are percent-encoded, and then those of a JSON pointer. */
const pathOf = (text: string): readonly string[] | undefined => {
  const trimmed = text.replace(/^\/+/, '').replace(/\/+$/, '');
  if (trimmed === '') return undefined;
  try {
    return trimmed.split('/').map((name) => decodeURIComponent(name).replaceAll('~1', '/').replaceAll('~0', '~'));
  } catch {
    return undefined;
  }
};

const operationOf = (item: Value, at: number): DataOperation => {
  if (!(item instanceof RegoObject)) return refuse(at, 'is no object');
  const [op, text, value] = ['op', 'path', 'value'].map((name) => item.get(name));
  const path = typeof text === 'string' ? pathOf(text) : undefined;
  if (path === undefined || path.length > MAX_DEPTH) return refuse(at, 'has no path below data');
  if (op === 'remove') return { op, path };
  if (op !== 'upsert' && op !== 'replace') return refuse(at, 'is none of upsert, replace, remove');
  return value === undefined ? refuse(at, 'has no value') : { op, path, value };
};

/** The operations of `patch.json`, read as a value. Throws `bundle_invalid`. */
export const operationsOf = (document: Value): readonly DataOperation[] => {
  const list = document instanceof RegoObject ? document.get('data') : undefined;
  if (list === undefined || !isArray(list) || list.length === 0 || list.length > MAX_OPERATIONS)
    throw new AppError('bundle_invalid', `patch.json: data is no list of 1 to ${MAX_OPERATIONS} operations`);
  return list.map(operationOf);
};

const treeOf = (value: Value): Tree => {
  if (value instanceof RegoObject)
    return new Map(value.entries.map(([name, member]) => [typeof name === 'string' ? name : '', treeOf(member)]));
  if (value instanceof RegoSet) throw new TypeError('JSON has no sets');
  return isArray(value) ? value.map(treeOf) : value;
};

const valueOf = (tree: Tree): Value => {
  if (tree instanceof Map) return RegoObject.of([...tree].map(([name, member]) => [name, valueOf(member)] as const));
  return Array.isArray(tree) ? tree.map(valueOf) : tree;
};

const childOf = (container: Tree, name: string): Tree | undefined => {
  if (container instanceof Map) return container.get(name);
  return Array.isArray(container) && INDEX.test(name) ? container[Number(name)] : undefined;
};

/** The container of the path's end; `upsert` makes objects where there is nothing on the way. */
const containerOf = (document: Tree, { op, path }: DataOperation, at: number): Tree => {
  let container = document;
  for (const name of path.slice(0, -1)) {
    let child = childOf(container, name);
    if (child === undefined && op === 'upsert' && container instanceof Map) {
      child = new Map();
      container.set(name, child);
    }
    container = child ?? refuse(at, 'has a path that does not exist');
  }
  return container;
};

const applyInMap = (container: Map<string, Tree>, operation: DataOperation, name: string, at: number): void => {
  if (operation.op !== 'upsert' && !container.has(name)) refuse(at, 'has a path that does not exist');
  if (operation.op === 'remove') container.delete(name);
  else container.set(name, treeOf(operation.value));
};

const applyInList = (container: Tree[], operation: DataOperation, name: string, at: number): void => {
  const index = name === '-' ? container.length : INDEX.test(name) ? Number(name) : -1;
  const last = operation.op === 'upsert' ? container.length : container.length - 1;
  if (index < 0 || index > last) refuse(at, 'has a path that does not exist');
  if (operation.op === 'remove') container.splice(index, 1);
  else container.splice(index, operation.op === 'upsert' ? 0 : 1, treeOf(operation.value));
};

/** The document after all operations, in order. Throws `bundle_invalid` for one that cannot be done, as OPA does. */
export const applyOperations = (document: Value, operations: readonly DataOperation[]): Value => {
  const tree = treeOf(document);
  operations.forEach((operation, at) => {
    const container = containerOf(tree, operation, at);
    const name = operation.path.at(-1) ?? '';
    if (container instanceof Map) applyInMap(container, operation, name, at);
    else if (Array.isArray(container)) applyInList(container, operation, name, at);
    else refuse(at, 'has a path through what is neither object nor array');
  });
  return valueOf(tree);
};

/** Inverse of `pathOf`. */
const pathText = (path: readonly string[]): string =>
  path.map((name) => `/${encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('');

/** The document of `patch.json`. */
export const patchOf = (operations: readonly DataOperation[]): Value =>
  RegoObject.of([
    [
      'data',
      operations.map((operation) =>
        RegoObject.of([
          ['op', operation.op],
          ['path', pathText(operation.path)],
          ...(operation.op === 'remove' ? [] : [['value', operation.value] as const]),
        ]),
      ),
    ],
  ]);

const NOTHING = RegoObject.of([]);

const textOf = (value: Value): string => Buffer.from(canonicalBytesOf(value)).toString('utf8');

type MayChange = (path: readonly string[]) => boolean;

const betweenObjects = (
  from: RegoObject,
  to: RegoObject,
  path: readonly string[],
  mayChange: MayChange,
): readonly DataOperation[] => {
  const names = new Set([...from.entries, ...to.entries].map(([name]) => (typeof name === 'string' ? name : '')));
  return [...names].flatMap((name): readonly DataOperation[] => {
    const [old, value] = [from.get(name), to.get(name)];
    const at = [...path, name];
    if (old !== undefined && value !== undefined) return between(old, value, at, mayChange);
    // What lies above a root is made and left by what is done below.
    if (!mayChange(at)) return between(old ?? NOTHING, value ?? NOTHING, at, mayChange);
    return [value === undefined ? { op: 'remove', path: at } : { op: 'upsert', path: at, value }];
  });
};

/** What is alike at both ends stays; between, items are changed in place, then removed from behind or inserted. */
const betweenLists = (
  from: readonly Value[],
  to: readonly Value[],
  path: readonly string[],
  mayChange: MayChange,
): readonly DataOperation[] => {
  const [old, wanted] = [from.map(textOf), to.map(textOf)];
  const shorter = Math.min(old.length, wanted.length);
  let start = 0;
  while (start < shorter && old[start] === wanted[start]) start += 1;
  let end = 0;
  while (end < shorter - start && old.at(-1 - end) === wanted.at(-1 - end)) end += 1;
  const inPlace = to.slice(start, shorter - end).flatMap((value, index) => {
    const before = from[start + index];
    return before === undefined ? [] : between(before, value, [...path, `${start + index}`], mayChange);
  });
  const removed = from
    .slice(shorter - end, from.length - end)
    .map((_, index): DataOperation => ({ op: 'remove', path: [...path, `${shorter - end + index}`] }))
    .reverse();
  const inserted = to
    .slice(shorter - end, to.length - end)
    .map((value, index): DataOperation => ({ op: 'upsert', path: [...path, `${shorter - end + index}`], value }));
  return [...inPlace, ...removed, ...inserted];
};

/** Whether a patch can name it: outer slashes do not count, so a path does not end in a member without a name. */
const isSayable = ({ path }: DataOperation): boolean => path.length <= MAX_DEPTH && path.at(-1) !== '';

const between = (from: Value, to: Value, path: readonly string[], mayChange: MayChange): readonly DataOperation[] => {
  const whole: readonly DataOperation[] = [{ op: 'replace', path, value: to }];
  let parts: readonly DataOperation[];
  if (from instanceof RegoObject && to instanceof RegoObject) parts = betweenObjects(from, to, path, mayChange);
  else if (isArray(from) && isArray(to)) parts = betweenLists(from, to, path, mayChange);
  else return textOf(from) === textOf(to) ? [] : whole;
  if (parts.length === 0 || path.length === 0 || !mayChange(path)) return parts;
  const isShorter = textOf(patchOf(parts)).length <= textOf(patchOf(whole)).length;
  return isShorter && parts.every(isSayable) ? parts : whole;
};

/**
 * Operations that make the one document of the other, none of them where `mayChange` says no. Numbers that are written
 * differently differ. Whoever uses them applies them first: not all that differs can be said in a patch.
 */
export const operationsBetween = (from: Value, to: Value, mayChange: MayChange): readonly DataOperation[] =>
  between(from, to, [], mayChange);
