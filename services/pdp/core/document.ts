import { isObject } from '../../shared/contracts/json.ts';
import { NoObject, PLAIN_BYTES, textBytes, WideObject, withMembers, type Sized } from './wide-object.ts';

/**
 * A JSON document that is never changed: what a change leaves alone stays the same object in the changed one. Large
 * objects in it are `WideObject`s.
 */
export type Document = unknown;

export type DocumentObject = Readonly<Record<string, unknown>> | WideObject | Draft;

/** A wide object that is being changed. */
export class Draft {
  readonly #base: WideObject;
  /** Undefined: the member goes. */
  readonly #changed = new Map<string, { readonly value: Document } | undefined>();
  constructor(base: WideObject) {
    this.#base = base;
  }

  set(name: string, member: { readonly value: Document } | undefined): void {
    this.#changed.set(name, member);
  }
  member(name: string): { readonly value: Document } | undefined {
    return this.#changed.has(name) ? this.#changed.get(name) : this.#base.member(name);
  }
  *entries(): Generator<readonly [string, Document]> {
    for (const [name, value] of this.#base.entries()) if (!this.#changed.has(name)) yield [name, value];
    for (const [name, member] of this.#changed) if (member !== undefined) yield [name, member.value];
  }
  toJSON(): Readonly<Record<string, unknown>> {
    return Object.fromEntries(this.entries());
  }
  /** `left` as in `sealed`. */
  sealed(left: number): Sized {
    const changes = Array.from(
      this.#changed,
      ([name, member]) => [name, member === undefined ? undefined : sealed(member.value, left - 1)] as const,
    );
    return withMembers(this.#base, changes);
  }
}

/** Containers inside each other in a document, itself counted. */
export const MAX_DOCUMENT_DEPTH = 64;

export const isDocumentObject = (value: Document): value is DocumentObject => isObject(value);

/** The member `name` itself, nothing of a prototype. */
export const memberOf = (object: DocumentObject, name: string): { readonly value: Document } | undefined => {
  if (object instanceof WideObject || object instanceof Draft) return object.member(name);
  return Object.hasOwn(object, name) ? { value: object[name] } : undefined;
};

export const entriesOf = (object: DocumentObject): Iterable<readonly [string, Document]> =>
  object instanceof WideObject || object instanceof Draft ? object.entries() : Object.entries(object);

export const countOf = (object: DocumentObject): number => {
  if (object instanceof WideObject) return object.count;
  return object instanceof Draft ? [...object.entries()].length : Object.keys(object).length;
};

export const isTooDeep = (value: Document, left = MAX_DOCUMENT_DEPTH): boolean => {
  if (typeof value !== 'object' || value === null) return false;
  if (left <= 0) return true;
  if (value instanceof WideObject) return value.depth > left;
  if (Array.isArray(value)) return value.some((element) => isTooDeep(element, left - 1));
  if (!isDocumentObject(value)) return false;
  for (const [, member] of entriesOf(value)) if (isTooDeep(member, left - 1)) return true;
  return false;
};

const tooDeep = (): never => {
  throw new NoObject(`would be nested more than ${MAX_DOCUMENT_DEPTH} deep`);
};

const depthOf = (value: Document, left: number): number => {
  if (typeof value !== 'object' || value === null) return 0;
  if (left <= 0) return tooDeep();
  let depth = 0;
  for (const member of Object.values(value)) depth = Math.max(depth, depthOf(member, left - 1));
  return depth + 1;
};

/**
 * What a document is in the end: large objects wide, small ones and those in lists plain, nothing a draft. `left`: how
 * many containers may be inside each other. Throws `NoObject`.
 */
export const sealed = (value: Document, left = MAX_DOCUMENT_DEPTH): Sized => {
  if (value instanceof WideObject) {
    const { bytes, depth } = value;
    return depth > left ? tooDeep() : { value, bytes, depth };
  }
  if (value instanceof Draft) {
    // Members that were not changed may have been moved with it, to where they are too deep.
    const object = left <= 0 ? tooDeep() : value.sealed(left);
    return object.depth > left ? tooDeep() : object;
  }
  if (!isObject(value)) {
    const depth = depthOf(value, left);
    return { value, bytes: textBytes(value), depth };
  }
  if (left <= 0) return tooDeep();
  const members: (readonly [string, Sized])[] = [];
  let [bytes, depth, isSame] = [1, 0, true];
  for (const [name, member] of Object.entries(value)) {
    const own = sealed(member, left - 1);
    members.push([name, own]);
    bytes += textBytes(name) + own.bytes + 2;
    depth = Math.max(depth, own.depth);
    isSame &&= own.value === member;
  }
  if (bytes > PLAIN_BYTES) return withMembers(undefined, members);
  const plain = isSame ? value : Object.fromEntries(members.map(([name, own]) => [name, own.value]));
  return { value: plain, bytes: Math.max(bytes, 2), depth: depth + 1 };
};
