import { isObject } from '../../shared/contracts/json.ts';
import { finish, rootNode, type Steps } from './data-nodes.ts';
import {
  countOf,
  Draft,
  entriesOf,
  isDocumentObject,
  MAX_DOCUMENT_DEPTH,
  memberOf,
  sealed,
  type Document,
  type DocumentObject,
} from './document.ts';
import { applyPatch, PatchConflict, valueAt, type PatchOperation } from './json-patch.ts';
import { formatPointer, isPathPrefix, type DataPath } from './json-pointer.ts';
import { changedNames, NoObject, WideObject, type Sized } from './wide-object.ts';

/** One change of a tenant's pushed data, as it stands in the stream. */
export type DataChange =
  | { readonly op: 'put'; readonly path: DataPath; readonly value: Document }
  /** The operations' paths are below `path`. */
  | { readonly op: 'patch'; readonly path: DataPath; readonly operations: readonly PatchOperation[] }
  | { readonly op: 'delete'; readonly path: DataPath };

/** How answers and events name the pushed data. */
export interface DataIdentity {
  /** The offset in the tenant's stream of the last change that took effect. */
  readonly revision: number;
  /** Of the root node of the document (`data-node.ts`): `sha256:` and 64 hex digits. The same for equal documents. */
  readonly digest: string;
}

/** All that was pushed for one tenant. It stands beside the bundles' data, never inside it. */
export interface PushedData {
  readonly document: DocumentObject;
  /** Undefined while nothing was pushed. */
  readonly identity: DataIdentity | undefined;
}

export const NOTHING_PUSHED: PushedData = { document: {}, identity: undefined };

/** Puts a value at a path, and objects where there is nothing on the way. */
const put = (document: Document, path: DataPath, value: Document, at: DataPath = []): Document => {
  const name = path[at.length];
  if (name === undefined) return value;
  if (path.length >= MAX_DOCUMENT_DEPTH) throw new PatchConflict([], `may be nested ${MAX_DOCUMENT_DEPTH} deep`);
  if (!isDocumentObject(document)) throw new PatchConflict(at, 'is no object');
  const found = memberOf(document, name);
  const below = put(found === undefined ? {} : found.value, path, value, [...at, name]);
  if (!(document instanceof WideObject)) return Object.fromEntries([...entriesOf(document), [name, below]]);
  const draft = new Draft(document);
  draft.set(name, { value: below });
  return draft;
};

const changed = (document: Document, change: DataChange): Document => {
  switch (change.op) {
    case 'put':
      return put(document, change.path, change.value);
    case 'patch': {
      const { path } = change;
      const below = (at: DataPath): DataPath => [...path, ...at];
      return applyPatch(
        document,
        change.operations.map((operation) =>
          'from' in operation
            ? { ...operation, path: below(operation.path), from: below(operation.from) }
            : { ...operation, path: below(operation.path) },
        ),
      );
    }
    case 'delete':
      return change.path.length === 0 ? {} : applyPatch(document, [{ op: 'remove', path: change.path }]);
    default:
      return change satisfies never;
  }
};

const sealedDocument = (document: Document): Sized => {
  try {
    return sealed(document);
  } catch (cause) {
    throw cause instanceof NoObject ? new PatchConflict([], cause.message) : cause;
  }
};

/**
 * The data after a change that stands at `revision` of the stream. It depends on nothing but the data before, the
 * change and the limit, so that all decision points agree. Throws `PatchConflict`: the change has no effect.
 */
export function* changing(data: PushedData, change: DataChange, revision: number, maxBytes: number): Steps<PushedData> {
  const { value: document, bytes } = sealedDocument(changed(data.document, change));
  if (!isDocumentObject(document)) throw new PatchConflict([], 'must stay an object');
  if (bytes > maxBytes) throw new PatchConflict([], `would have ${bytes} bytes, and may have ${maxBytes}`);
  yield;
  const { digest } = yield* rootNode(document);
  return { document, identity: { revision, digest } };
}

/** `changing` at once. */
export const applyChange = (data: PushedData, change: DataChange, revision: number, maxBytes: number): PushedData =>
  finish(changing(data, change, revision, maxBytes));

/** Data that was stored with its identity. Undefined when its digest is another, or when no change leads to it. */
export const restoredData = (
  stored: Readonly<Record<string, unknown>>,
  identity: DataIdentity | undefined,
): PushedData | undefined => {
  if (identity === undefined) return Object.keys(stored).length === 0 ? NOTHING_PUSHED : undefined;
  try {
    const { value: document } = sealed(stored);
    if (!isDocumentObject(document)) return undefined;
    return finish(rootNode(document)).digest === identity.digest ? { document, identity } : undefined;
  } catch (cause) {
    if (cause instanceof NoObject) return undefined;
    throw cause;
  }
};

/** The paths below which a change may write. */
const written = (change: DataChange): readonly DataPath[] => {
  switch (change.op) {
    case 'put':
      return [change.path];
    case 'patch':
      return change.operations.flatMap((operation) => {
        const path = [...change.path, ...operation.path];
        switch (operation.op) {
          case 'add':
          case 'replace':
          case 'move':
          case 'copy':
            return [path];
          case 'remove':
          case 'test':
            return [];
          default:
            return operation satisfies never;
        }
      });
    case 'delete':
      // Only what was pushed can be taken away.
      return [];
    default:
      return change satisfies never;
  }
};

/** The root of a bundle that `path` lies in, or lies above. */
const rootAt = (path: DataPath, roots: readonly DataPath[]): DataPath | undefined =>
  roots.find((root) => isPathPrefix(root, path) || isPathPrefix(path, root));

/** Why a change may not be pushed beside bundles with these roots; undefined when it may. No roots: no bundles. */
export const ownershipProblem = (
  change: DataChange,
  roots: readonly DataPath[] | undefined,
): PatchConflict | undefined => {
  for (const path of written(change)) {
    if (roots === undefined) return new PatchConflict(path, 'cannot be pushed while no bundle is active');
    const root = rootAt(path, roots);
    if (root === undefined) continue;
    const owned = root.length === 0 ? 'all data' : formatPointer(root);
    return new PatchConflict(path, `belongs to a bundle, whose roots have ${owned}; push beside it`);
  }
  return undefined;
};

/** What a change of the document means for the data of an engine. `json` undefined: nothing stands there any more. */
export interface DocumentPatch {
  readonly path: DataPath;
  readonly json: string | undefined;
}

/** UTF-16 units of JSON that an engine reads without a pause: some milliseconds. */
const MAX_PATCH = 256 * 1024;

/** A large object is written member by member; a large list cannot be. */
const writing = (path: DataPath, value: Document): readonly DocumentPatch[] => {
  if (!(value instanceof WideObject && value.bytes > MAX_PATCH)) {
    const json = JSON.stringify(value);
    if (json.length <= MAX_PATCH || !isDocumentObject(value)) return [{ path, json }];
  }
  const members = Array.from(entriesOf(value), ([name, member]) => writing([...path, name], member));
  return [{ path, json: '{}' }, ...members.flat()];
};

/** Members that may not be the same in both; those that are gone may come first. */
const namesBetween = (before: DocumentObject, after: DocumentObject): Iterable<string> => {
  if (before instanceof WideObject && after instanceof WideObject) return changedNames(before.trie, after.trie);
  const names = Array.from(entriesOf(before), ([name]) => name).filter((name) => memberOf(after, name) === undefined);
  return [...names, ...Array.from(entriesOf(after), ([name]) => name)];
};

/**
 * The least that leads from one document to another, through objects only. Parts that are the same object are not
 * looked into. An object above a root is never written as a whole, since the bundle's data stands in the same one; where
 * there is one (`isSharedWithRoots`), only what leads from the empty document is right.
 */
export const patchesBetween = (
  before: Document,
  after: Document,
  roots: readonly DataPath[],
  path: DataPath = [],
): readonly DocumentPatch[] => {
  if (before === after) return [];
  const isShared = path.length === 0 || roots.some((root) => root.length > path.length && isPathPrefix(path, root));
  if (!isDocumentObject(after) || !(isDocumentObject(before) || isShared)) return writing(path, after);
  const old = isDocumentObject(before) ? before : {};
  const patches: DocumentPatch[] = [];
  for (const name of namesBetween(old, after)) {
    const member = memberOf(after, name);
    const at = [...path, name];
    if (member === undefined) patches.push({ path: at, json: undefined });
    else patches.push(...patchesBetween(memberOf(old, name)?.value, member.value, roots, at));
  }
  return patches;
};

/** Whether an object of the document is above a root, so that a bundle has members in it too. */
export const isSharedWithRoots = ({ document }: PushedData, roots: readonly DataPath[]): boolean =>
  roots.some(([first = '', ...below]) => below.length > 0 && memberOf(document, first) !== undefined);

/** Where pushed data stands in the way of a bundle with these roots, or undefined. */
export const dataInsideRoots = ({ document }: PushedData, roots: readonly DataPath[]): string | undefined => {
  for (const root of roots) {
    if (root.length === 0 && countOf(document) > 0) return formatPointer(root);
    if (root.length > 0 && valueAt(document, root) !== undefined) return formatPointer(root);
    // Something that is no object stands on the way to the root.
    for (let length = 1; length < root.length; length += 1) {
      const above = valueAt(document, root.slice(0, length));
      if (above !== undefined && !isObject(above.value)) return formatPointer(root.slice(0, length));
    }
  }
  return undefined;
};
