import { BuiltinError } from './builtin.ts';
import { isArray, RegoObject, type Value } from './value.ts';

const DRAFTS: ReadonlyMap<string, number> = new Map([
  ['http://json-schema.org/draft-04/schema', 4],
  ['http://json-schema.org/draft-06/schema', 6],
  ['http://json-schema.org/draft-07/schema', 7],
]);

const fail = (message: string): never => {
  throw new BuiltinError(message);
};

const URL_PARTS = /^(?:([^:/?#]+):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s;

interface Parts {
  readonly scheme: string | undefined;
  readonly host: string | undefined;
  readonly path: string;
  readonly query: string | undefined;
  readonly fragment: string;
}

const partsOf = (reference: string): Parts => {
  const [, scheme, host, path = '', query, fragment = ''] = URL_PARTS.exec(reference) ?? [];
  return { scheme, host, path, query, fragment };
};

const textOf = ({ scheme, host, path, query, fragment }: Parts): string =>
  [
    scheme === undefined ? '' : `${scheme}:`,
    host === undefined ? '' : `//${host}`,
    path,
    query === undefined ? '' : `?${query}`,
    fragment === '' ? '' : `#${fragment}`,
  ].join('');

const withoutDots = (path: string): string => {
  if (path === '') return '';
  const segments: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') segments.pop();
    else if (segment !== '.') segments.push(segment);
  }
  if (/(?:^|\/)\.\.?$/.test(path)) segments.push('');
  return `/${segments.join('/').replace(/^\//, '')}`;
};

/** A reference seen from a base (RFC 3986, 5.2), with the absolute paths that Go gives. */
const resolveReference = (base: string, reference: string): string => {
  const [from, to] = [partsOf(base), partsOf(reference)];
  if (to.scheme !== undefined) return textOf({ ...to, path: to.host === undefined ? to.path : withoutDots(to.path) });
  const { scheme } = from;
  if (to.host !== undefined) return textOf({ ...to, scheme, path: withoutDots(to.path) });
  if (to.path === '') {
    const query = to.query ?? from.query;
    const fragment = to.fragment === '' && to.query === undefined ? from.fragment : to.fragment;
    return textOf({ ...from, path: withoutDots(from.path), query, fragment });
  }
  const path = to.path.startsWith('/') ? to.path : from.path.slice(0, from.path.lastIndexOf('/') + 1) + to.path;
  return textOf({ ...to, scheme, host: from.host, path: withoutDots(path) });
};

interface Found {
  readonly node: Value;
  readonly draft: number | undefined;
}

/** The schemas of one document by their identifiers. Nothing is ever loaded from elsewhere. */
export class SchemaPool {
  private readonly byIdentifier = new Map<string, Value>();
  private readonly absolute = new Map<RegoObject, string>();
  private readonly draft: number | undefined;

  constructor(document: Value) {
    this.draft = SchemaPool.draftOf(document);
    this.collect(document, '');
    this.byIdentifier.set('', document);
  }

  /** The draft that a document's `$schema` names; none of ours, or none at all, is undefined. */
  static draftOf(document: Value): number | undefined {
    if (typeof document === 'boolean') return undefined;
    if (!(document instanceof RegoObject)) return fail('schema is invalid');
    const schema = document.get('$schema');
    if (schema === undefined) return undefined;
    if (typeof schema !== 'string') return fail('$schema must be of type string');
    return DRAFTS.get(schema.replace(/#$/, ''));
  }

  private collect(node: Value, base: string): void {
    if (node === null || typeof node !== 'object') return;
    if (isArray(node)) {
      for (const item of node) this.collect(item, base);
      return;
    }
    if (!(node instanceof RegoObject)) return;
    let local = base;
    const identifier = node.get('id') ?? node.get('$id');
    if (typeof identifier === 'string') {
      local = resolveReference(base, identifier);
      if (this.byIdentifier.has(local)) fail(`Reference already exists: "${local}"`);
      this.byIdentifier.set(local, node);
    }
    const reference = node.get('$ref');
    if (typeof reference === 'string') this.absolute.set(node, resolveReference(local, reference));
    for (const [key, member] of node.entries) {
      if (key === 'const' || key === 'enum') continue;
      if (key !== 'properties' && key !== 'dependencies' && key !== 'patternProperties') this.collect(member, local);
      else if (member instanceof RegoObject) for (const [, inner] of member.entries) this.collect(inner, local);
    }
  }

  /** The absolute reference of a node that has `$ref`. */
  referenceOf(node: RegoObject): string {
    const reference = node.get('$ref');
    return this.absolute.get(node) ?? (typeof reference === 'string' ? reference : '');
  }

  find(reference: string): Found {
    const exact = this.byIdentifier.get(reference);
    if (exact !== undefined) return { node: exact, draft: this.draft };
    const parts = partsOf(reference);
    const document = this.byIdentifier.get(textOf({ ...parts, fragment: '' }));
    if (document === undefined)
      return fail(
        parts.scheme === undefined
          ? `Reference ${reference} must be canonical`
          : `remote reference loading disabled: ${reference}`,
      );
    return { node: at(document, parts.fragment), draft: this.draft };
  }
}

/** What a JSON pointer (RFC 6901) in a fragment names. */
const at = (document: Value, fragment: string): Value => {
  let pointer: string;
  try {
    pointer = decodeURIComponent(fragment);
  } catch {
    return fail(`Invalid fragment ${fragment}`);
  }
  if (pointer === '') return document;
  if (!pointer.startsWith('/')) return fail('JSON pointer must be empty or start with a "/"');
  let node: Value | undefined = document;
  for (const token of pointer.slice(1).split('/')) {
    const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
    if (node instanceof RegoObject) node = node.get(key);
    else if (node !== undefined && node !== null && typeof node === 'object' && isArray(node))
      node = /^\d{1,9}$/.test(key) ? node[Number(key)] : undefined;
    else node = undefined;
    if (node === undefined) return fail(`Object has no key '${key}'`);
  }
  return node;
};
