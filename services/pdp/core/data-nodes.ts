import { encodeDataNode, type DataNode } from '../../shared/contracts/data-node.ts';
import type { DocumentObject } from './document.ts';
import { WideObject, type Trie } from './wide-object.ts';

/** A node of a state; its text is made when it is asked for. */
export interface StateNode {
  /** `sha256:` and 64 hex digits. */
  readonly digest: string;
  readonly bytes: number;
  readonly text: () => string;
}

/** By the part of a document that it is made of, which never changes. */
const nodes = new WeakMap<object, StateNode>();

const remember = (part: object, make: () => DataNode): StateNode => {
  const { digest, text } = encodeDataNode(make());
  const node = { digest, bytes: Buffer.byteLength(text, 'utf8'), text: () => encodeDataNode(make()).text };
  nodes.set(part, node);
  return node;
};

/** Work that is done in steps of a node each. */
export type Steps<T> = Generator<undefined, T, undefined>;

export const finish = <T>(steps: Steps<T>): T => {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
};

function* trieNode(trie: Trie): Steps<StateNode> {
  const found = nodes.get(trie);
  if (found !== undefined) return found;
  if ('children' in trie) {
    const parts: string[] = [];
    for (const child of trie.children) if (child !== undefined) parts.push((yield* trieNode(child)).digest);
    yield;
    return remember(trie, () => ({ parts }));
  }
  const large: [string, string][] = [];
  for (const [name, { value }] of trie.members)
    if (value instanceof WideObject) large.push([name, (yield* trieNode(value.trie)).digest]);
  yield;
  return remember(trie, () => ({
    members: Object.fromEntries(
      Array.from(trie.members, ([name, { value }]) => [name, value] as const).filter(
        ([, value]) => !(value instanceof WideObject),
      ),
    ),
    nodes: Object.fromEntries(large),
  }));
}

/** The root of a document: its digest is that of the document. Only what is not known yet is hashed. */
export function* rootNode(document: DocumentObject): Steps<StateNode> {
  if (document instanceof WideObject) return yield* trieNode(document.trie);
  return (
    nodes.get(document) ??
    remember(document, () => ({ members: document as Readonly<Record<string, unknown>>, nodes: {} }))
  );
}

function* childParts(trie: Trie): Generator<Trie> {
  if ('children' in trie) {
    for (const child of trie.children) if (child !== undefined) yield child;
  } else for (const { value } of trie.members.values()) if (value instanceof WideObject) yield value.trie;
}

function* newParts(trie: Trie, archived: WeakSet<object>): Generator<StateNode> {
  if (archived.has(trie)) return;
  for (const child of childParts(trie)) yield* newParts(child, archived);
  archived.add(trie);
  const node = nodes.get(trie);
  if (node !== undefined) yield node;
}

/**
 * The nodes of a document, whose digest is known, that are not `archived` yet, and now are: the root comes last, so
 * that where it is, all is. Who asks and does not archive them all asks with an empty set the next time.
 */
export function* unarchivedNodes(document: DocumentObject, archived: WeakSet<object>): Generator<StateNode> {
  if (document instanceof WideObject) yield* newParts(document.trie, archived);
  else if (!archived.has(document)) {
    archived.add(document);
    const node = nodes.get(document);
    if (node !== undefined) yield node;
  }
}
