import { AppError } from '../../shared/contracts/errors.ts';
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
