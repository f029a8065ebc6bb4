import { Composer, Parser, type CST, type Document } from 'yaml';
import { BuiltinError, BuiltinHalt } from './builtin.ts';

const fail = (why: string): never => {
  throw new BuiltinError(`yaml: ${why}`);
};

/** Characters that go-yaml's reader refuses. */
const UNREADABLE = /[^\t\n\r\u0020-\u007e\u0085\u00a0-\ufffd]/;

/** Nested collections are read by recursion: deeper text is refused. */
const MAX_DEPTH = 512;

const DIRECTIVE = /^%(?:YAML[ \t]+1\.1|TAG[ \t]+![\w-]*!?[ \t]+\S+)[ \t]*(?:#.*)?$/;

/** After these a block collection may begin, and no tab may stand before it. */
const OPENS_BLOCK: ReadonlySet<string> = new Set(['newline', 'seq-item-ind', 'explicit-key-ind', 'doc-start']);

/** In block context, white space at the start of a line and behind `-` and `?` is indentation: it holds no tab. */
const checkTabs = (tokens: readonly CST.SourceToken[], isLineStart: boolean): void => {
  let isIndentation = isLineStart;
  for (const { type, source } of tokens) {
    if (type === 'space') {
      if (isIndentation && source.includes('\t')) fail('found character that cannot start any token');
    } else isIndentation = OPENS_BLOCK.has(type);
  }
};

const BLANKS: ReadonlySet<string> = new Set(['space', 'newline', 'comment', 'byte-order-mark']);

const endsLine = (tokens: readonly CST.SourceToken[] | undefined): boolean => tokens?.at(-1)?.type === 'newline';

/** Escapes that YAML 1.2 has and libyaml has not; surrogates are no characters to it. */
const checkEscapes = (source: string): void => {
  for (const [, escape = ''] of source.matchAll(/\\(u[0-9a-fA-F]{4}|[^])/g))
    if (escape === '/' || /^u[dD][89a-fA-F]/.test(escape)) fail('unknown escape character');
};

/** Where go-yaml is stricter than the library. */
class Strictness {
  /** Whether the token before ended its line. */
  private isLineStart = true;

  private tokens(tokens: readonly CST.SourceToken[] | undefined, isInFlow: boolean): void {
    if (tokens === undefined || tokens.length === 0) return;
    if (!isInFlow) checkTabs(tokens, this.isLineStart);
    this.isLineStart = endsLine(tokens);
  }

  check(token: CST.Token | null | undefined, isInFlow: boolean, depth: number): void {
    if (token === null || token === undefined) return;
    if (depth > MAX_DEPTH) throw new BuiltinHalt('yaml: nested too deep');
    switch (token.type) {
      case 'block-map':
      case 'block-seq':
      case 'flow-collection': {
        const isFlow = isInFlow || token.type === 'flow-collection';
        if (token.type === 'flow-collection') this.isLineStart = false;
        for (const { start, key, sep, value } of token.items) {
          this.tokens(start, isFlow);
          this.check(key, isFlow, depth + 1);
          this.tokens(sep, isFlow);
          this.check(value, isFlow, depth + 1);
        }
        if (token.type === 'flow-collection') this.tokens(token.end, isInFlow);
        return;
      }
      case 'double-quoted-scalar':
        checkEscapes(token.source);
        break;
      case 'scalar':
        if (isInFlow && /^[?:]/.test(token.source)) fail('an indicator in a flow collection');
        break;
      case 'block-scalar':
        this.isLineStart = true;
        return;
      default:
        break;
    }
    this.isLineStart = false;
    if ('end' in token) this.tokens(token.end, isInFlow);
  }

  document(token: CST.Document): void {
    this.tokens(token.start, false);
    this.check(token.value, false, 1);
    this.tokens(token.end, false);
  }
}

const checkStream = (tokens: readonly CST.Token[]): void => {
  const strictness = new Strictness();
  let hasEnded = false;
  let isVersioned = false;
  let hasDocument = false;
  for (const token of tokens) {
    switch (token.type) {
      case 'directive':
        if (!DIRECTIVE.test(token.source)) fail('unknown directive');
        if (token.source.startsWith('%YAML')) {
          if (isVersioned) fail('duplicate %YAML directive');
          isVersioned = true;
        }
        break;
      case 'document': {
        const isExplicit = token.start.some(({ type }) => type === 'doc-start');
        const isEmpty = token.value === undefined && token.start.every(({ type }) => BLANKS.has(type));
        if (isEmpty ? !hasDocument : hasEnded && !isExplicit) fail('did not find expected <document start>');
        strictness.document(token);
        hasDocument = true;
        hasEnded = false;
        isVersioned = false;
        break;
      }
      case 'doc-end':
        if (!hasDocument) fail('did not find expected <document start>');
        hasEnded = true;
        break;
      case 'space':
        if (token.source.includes('\t')) fail('found character that cannot start any token');
        break;
      default:
        break;
    }
  }
};

/** The documents of a stream; none when it is empty. Throws `BuiltinError` where go-yaml does. */
export const readDocuments = (text: string): readonly Document[] => {
  if (UNREADABLE.test(text)) fail('control characters are not allowed');
  // To YAML 1.1 this is a line break, too.
  const source = text.replace(/\r\n?|\u0085/g, '\n');
  const tokens = [...new Parser().parse(source)];
  checkStream(tokens);
  const composer = new Composer({ schema: 'failsafe', uniqueKeys: false, logLevel: 'silent', prettyErrors: false });
  const documents = [...composer.compose(tokens)];
  for (const { errors } of documents) {
    // go-yaml takes a comment right behind a quoted scalar or a flow collection.
    const error = errors.find(({ message }) => !message.startsWith('Comments must be separated'));
    if (error !== undefined) fail(error.message);
  }
  return documents;
};
