import { isAlias, isMap, isPair, isScalar, isSeq, type Document, type Node as YamlNode } from 'yaml';
import { boundedText, BuiltinError, BuiltinHalt, text, type Builtins } from './builtin.ts';
import { jsonForm } from './json-form.ts';
import { integerOf, RegoObject, type Value } from './value.ts';
import { emitYaml } from './yaml-emitter.ts';
import { readDocuments } from './yaml-source.ts';
import { jsonFloat, keyOfFloat, resolveScalar, type Scalar } from './yaml-scalar.ts';

const PREFIX = 'tag:yaml.org,2002:';

/** A node as go-yaml has it. The tag of a scalar is short (`int`); a private one keeps its `!`. */
type Node =
  | { readonly kind: 'scalar'; readonly tag: string; readonly isStyled: boolean; readonly text: string }
  | { readonly kind: 'map'; pairs: readonly (readonly [Node, Node])[] }
  | { readonly kind: 'seq'; items: readonly Node[] }
  | { readonly kind: 'alias'; readonly target: Node };

const fail = (why: string): never => {
  throw new BuiltinError(`yaml: ${why}`);
};

/** The document as go-yaml's tree. An alias is what the anchor of that name, last seen before it, stands on. */
const treeOf = (document: Document): Node => {
  const anchors = new Map<string, Node>();
  const remember = <T extends Node>(anchor: string | undefined, node: T): T => {
    if (anchor !== undefined && anchor !== '') anchors.set(anchor, node);
    return node;
  };
  const convert = (node: unknown): Node => {
    if (node === null || node === undefined) return { kind: 'scalar', tag: 'null', isStyled: false, text: '' };
    if (isAlias(node)) {
      const target = anchors.get(node.source) ?? fail(`unknown anchor ${node.source}`);
      return { kind: 'alias', target };
    }
    if (isMap(node)) {
      const map = remember<Node & { kind: 'map' }>(node.anchor, { kind: 'map', pairs: [] });
      map.pairs = node.items.map(({ key, value }) => [convert(key), convert(value)]);
      return map;
    }
    if (isSeq(node)) {
      const seq = remember<Node & { kind: 'seq' }>(node.anchor, { kind: 'seq', items: [] });
      seq.items = node.items.map((item) =>
        isPair(item) ? { kind: 'map', pairs: [[convert(item.key), convert(item.value)]] } : convert(item),
      );
      return seq;
    }
    if (!isScalar(node)) return fail('an unknown node');
    const isStyled = node.type !== 'PLAIN';
    // The value of some tags is no text any more.
    const value = node.source ?? '';
    return remember(node.anchor, { kind: 'scalar', tag: scalarTag(node, value, isStyled), isStyled, text: value });
  };
  return convert(document.contents);
};

const scalarTag = (node: YamlNode, value: string, isStyled: boolean): string => {
  const explicit = node.tag;
  if (explicit !== undefined && explicit !== '!')
    return explicit.startsWith(PREFIX) ? explicit.slice(PREFIX.length) : `!${explicit}`;
  if (isStyled) return 'str';
  return value === '<<' ? 'merge' : resolveScalar(value).tag;
};

const RESOLVABLE: ReadonlySet<string> = new Set(['bool', 'int', 'float', 'null', 'timestamp']);

const isMergeKey = (node: Node): boolean => node.kind === 'scalar' && node.text === '<<' && node.tag === 'merge';

/** What a scalar stands for by its tag; a text that its tag does not fit is an error. */
const scalarOf = (node: Node & { kind: 'scalar' }): Scalar | { readonly tag: 'text'; readonly value: string } => {
  if (node.tag === 'binary') {
    const compact = node.text.replace(/[\r\n]/g, '');
    if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(compact)) fail('invalid base64');
    return { tag: 'text', value: Buffer.from(compact, 'base64').toString('utf8') };
  }
  if (!RESOLVABLE.has(node.tag)) return { tag: 'text', value: node.text };
  const scalar = resolveScalar(node.text);
  if (scalar.tag === node.tag) return scalar;
  if (node.tag === 'float' && scalar.tag === 'int') return { tag: 'float', value: Number(scalar.value) };
  return fail(`cannot decode ${node.text} as a ${node.tag}`);
};

const behind = (node: Node): Node => (node.kind === 'alias' ? node.target : node);

/** Whether all keys are strings; then go-yaml takes keys that are merged in by their text. */
const isStringMap = ({ pairs }: Node & { kind: 'map' }): boolean =>
  pairs.every(([key]) => {
    const target = behind(key);
    return target.kind === 'scalar' && (target.tag === 'str' || target.tag === 'merge');
  });

/** The member name that a key becomes. Null and collections are none. */
const keyOf = (node: Node, isByText: boolean): string | undefined => {
  const target = behind(node);
  if (target.kind !== 'scalar') return fail('invalid map key');
  if (isByText) return target.tag === 'null' ? undefined : target.text;
  const scalar = scalarOf(target);
  switch (scalar.tag) {
    case 'null':
      return fail('unsupported map key');
    case 'bool':
    case 'int':
      return String(scalar.value);
    case 'float':
      return keyOfFloat(scalar.value);
    case 'text':
      return scalar.value;
    case 'str':
      return target.text;
    default:
      return scalar satisfies never;
  }
};

/** The share of what is decoded that may come from aliases: 99 % of small documents, 10 % of large ones. */
const allowedAliasRatio = (decoded: number): number => {
  const [low, high] = [400_000, 4_000_000];
  if (decoded <= low) return 0.99;
  return decoded >= high ? 0.1 : 0.99 - 0.89 * ((decoded - low) / (high - low));
};

class Decoder {
  private decoded = 0;
  private fromAliases = 0;
  private aliasDepth = 0;
  private readonly open = new Set<Node>();

  private count(): void {
    this.decoded += 1;
    if (this.aliasDepth > 0) this.fromAliases += 1;
    const isLarge = this.fromAliases > 100 && this.decoded > 1000;
    if (isLarge && this.fromAliases / this.decoded > allowedAliasRatio(this.decoded)) fail('excessive aliasing');
  }

  private behindAlias<T>(alias: Node & { kind: 'alias' }, decode: (target: Node) => T): T {
    if (this.open.has(alias)) fail('an anchor contains itself');
    this.open.add(alias);
    this.aliasDepth += 1;
    const result = decode(alias.target);
    this.aliasDepth -= 1;
    this.open.delete(alias);
    return result;
  }

  decode(node: Node): Value {
    this.count();
    switch (node.kind) {
      case 'alias':
        return this.behindAlias(node, (target) => this.decode(target));
      case 'seq':
        return node.items.map((item) => this.decode(item));
      case 'map': {
        const members = new Map<string, Value>();
        this.mapping(node, members, isStringMap(node));
        return RegoObject.of(members);
      }
      case 'scalar': {
        const scalar = scalarOf(node);
        switch (scalar.tag) {
          case 'null':
            return null;
          case 'bool':
          case 'text':
            return scalar.value;
          case 'int':
            return integerOf(scalar.value);
          case 'float':
            return Number.isFinite(scalar.value) ? jsonFloat(scalar.value) : fail('no JSON number');
          case 'str':
            return node.text;
          default:
            return scalar satisfies never;
        }
      }
      default:
        return node satisfies never;
    }
  }

  /** Of equal keys the last wins; what is merged into the mapping fills gaps only: `taken` names what is there. */
  private mapping(
    node: Node & { kind: 'map' },
    members: Map<string, Value>,
    isByText: boolean,
    taken?: Set<string>,
  ): void {
    const merges: Node[] = [];
    const own = new Map<string, Node>();
    for (const [key, value] of node.pairs) {
      if (isMergeKey(key)) {
        merges.push(value);
        continue;
      }
      const name = keyOf(key, isByText);
      if (name !== undefined) own.set(name, value);
    }
    for (const [key, value] of own) {
      this.count();
      if (taken?.has(key) === true) continue;
      taken?.add(key);
      members.set(key, this.decode(value));
    }
    if (merges.length === 0) return;
    const names = taken ?? new Set(own.keys());
    const isSeveral = merges.length > 1;
    for (const merge of merges) {
      if (merge.kind === 'seq') for (const item of merge.items) this.merge(item, members, isByText, names);
      else if (isSeveral || merge.kind !== 'scalar') this.merge(merge, members, isByText, names);
      else fail('map merge requires map or sequence of maps as the value');
    }
  }

  private merge(node: Node, members: Map<string, Value>, isByText: boolean, taken: Set<string>): void {
    this.count();
    if (node.kind === 'map') this.mapping(node, members, isByText, taken);
    else if (node.kind === 'alias' && node.target.kind === 'map') {
      const target = node.target;
      this.count();
      this.behindAlias(node, () => this.mapping(target, members, isByText, taken));
    } else fail('map merge requires map or sequence of maps as the value');
  }
}

/** The first document of a stream; the others need only be well-formed. */
const unmarshal = (source: string): Value => {
  const [first] = readDocuments(source).map(treeOf);
  return first === undefined ? null : new Decoder().decode(first);
};

/** Longest YAML text that is read: reading takes some microseconds a character. */
const MAX_SOURCE = 1024 * 1024;

const boundedSource = (source: string): string => {
  if (source.length > MAX_SOURCE) throw new BuiltinHalt(`a YAML text of ${source.length} characters`);
  return source;
};

const isValid = (value: Value | undefined): boolean => {
  if (typeof value !== 'string') return false;
  try {
    unmarshal(boundedSource(value));
    return true;
  } catch (error) {
    if (error instanceof BuiltinError) return false;
    throw error;
  }
};

export const yamlBuiltins: Builtins = {
  'yaml.marshal': (_, value) => boundedText(emitYaml(jsonForm(value ?? null))),
  'yaml.unmarshal': (_, value) => unmarshal(boundedSource(text(value))),
  'yaml.is_valid': (_, value) => isValid(value),
};
