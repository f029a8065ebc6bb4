import { Lexer, Source, TokenKind, type Token } from 'graphql';
import { BuiltinError, BuiltinHalt } from './builtin.ts';
import type { Tree } from './graphql-tree.ts';

/** gqlparser's numbers for kinds of values. */
const VALUE = {
  variable: 0,
  int: 1,
  float: 2,
  string: 3,
  block: 4,
  boolean: 5,
  null: 6,
  enum: 7,
  list: 8,
  object: 9,
} as const;

/** Deeper nesting is refused: parsing, printing and checking recurse. */
const MAX_DEPTH = 200;

const LOCATIONS: ReadonlySet<string> = new Set([
  'QUERY',
  'MUTATION',
  'SUBSCRIPTION',
  'FIELD',
  'FRAGMENT_DEFINITION',
  'FRAGMENT_SPREAD',
  'INLINE_FRAGMENT',
  'VARIABLE_DEFINITION',
  'SCHEMA',
  'SCALAR',
  'OBJECT',
  'FIELD_DEFINITION',
  'ARGUMENT_DEFINITION',
  'INTERFACE',
  'UNION',
  'ENUM',
  'ENUM_VALUE',
  'INPUT_OBJECT',
  'INPUT_FIELD_DEFINITION',
]);

const KINDS: ReadonlyMap<string, string> = new Map([
  ['scalar', 'SCALAR'],
  ['type', 'OBJECT'],
  ['interface', 'INTERFACE'],
  ['union', 'UNION'],
  ['enum', 'ENUM'],
  ['input', 'INPUT_OBJECT'],
]);

/** gqlparser takes the first line for the common indentation, too, which GraphQL's specification leaves out. */
const blockText = (source: string): string => {
  const lines = source.replace(/\r\n?/g, '\n').replaceAll('\\"""', '"""').split('\n');
  const indents = lines.filter((line) => /[^ \t]/.test(line)).map((line) => line.search(/[^ \t]/));
  const common = indents.reduce((least, indent) => Math.min(least, indent), Infinity);
  const cut = lines.map((line, index) => (index === 0 || common === Infinity ? line : line.slice(common)));
  const isBlank = (line: string | undefined): boolean => line !== undefined && !/[^ \t]/.test(line);
  let [start, end] = [0, cut.length];
  while (start < end && isBlank(cut[start])) start += 1;
  while (start < end && isBlank(cut[end - 1])) end -= 1;
  return cut.slice(start, end).join('\n');
};

/** Reads GraphQL into gqlparser's tree: its grammar, and its ideas of where a comment belongs. */
class GraphqlParser {
  private readonly lexer: Lexer;
  private token: Token;
  /** The comments before the token. */
  private comment: Tree | undefined;
  private depth = 0;

  constructor(source: string) {
    this.lexer = new Lexer(new Source(source));
    this.token = this.lexer.token;
    this.next();
  }

  private fail(): never {
    throw new BuiltinError(`unexpected ${this.token.kind} in GraphQL at ${this.token.line}:${this.token.column}`);
  }

  private read(): Token {
    try {
      return this.lexer.advance();
    } catch (cause) {
      throw new BuiltinError('malformed GraphQL', { cause });
    }
  }

  private next(): Token {
    const current = this.token;
    this.token = this.read();
    const list: Tree[] = [];
    for (let at = this.token.prev; at?.kind === TokenKind.COMMENT; at = at.prev) list.push({ Value: `#${at.value}` });
    this.comment = list.length > 0 ? { List: list.toReversed() } : undefined;
    return current;
  }

  private is(kind: TokenKind, word?: string): boolean {
    return this.token.kind === kind && (word === undefined || this.token.value === word);
  }

  private skip(kind: TokenKind, word?: string): boolean {
    const found = this.is(kind, word);
    if (found) this.next();
    return found;
  }

  private expect(kind: TokenKind, word?: string): string {
    return this.is(kind, word) ? this.next().value : this.fail();
  }

  private name(): string {
    return this.expect(TokenKind.NAME);
  }

  private nested<T>(parse: () => T): T {
    if (this.depth >= MAX_DEPTH) throw new BuiltinHalt('GraphQL is nested too deep');
    this.depth += 1;
    const result = parse();
    this.depth -= 1;
    return result;
  }

  /** A list in brackets, if there is one; and the comment before its end. */
  private list<T>(open: TokenKind, close: TokenKind, parse: () => T, canBeEmpty = false) {
    const all: T[] = [];
    if (!this.skip(open)) return { all, end: undefined };
    while (!this.is(close)) all.push(this.nested(parse));
    if (all.length === 0 && !canBeEmpty) this.fail();
    const end = this.comment;
    this.next();
    return { all, end };
  }

  private fields<T>(parse: () => T) {
    return this.list(TokenKind.BRACE_L, TokenKind.BRACE_R, parse);
  }

  query(): Tree {
    const operations: Tree[] = [];
    const fragments: Tree[] = [];
    while (!this.is(TokenKind.EOF)) {
      if (this.is(TokenKind.NAME, 'fragment')) fragments.push(this.fragmentDefinition());
      else operations.push(this.operation());
    }
    return { Operations: operations, Fragments: fragments };
  }

  private operation(): Tree {
    if (this.is(TokenKind.BRACE_L)) return { Operation: 'query', Name: '', SelectionSet: this.selections() };
    const comment = this.comment;
    const operation = this.operationType();
    const name = this.is(TokenKind.NAME) ? this.name() : '';
    const variables = this.variables();
    const directives = this.directives(false);
    return {
      Operation: operation,
      Name: name,
      VariableDefinitions: variables,
      Directives: directives,
      SelectionSet: this.selections(),
      Comment: comment,
    };
  }

  private operationType(): string {
    return ['query', 'mutation', 'subscription'].includes(this.token.value) ? this.name() : this.fail();
  }

  private variables(): Tree[] {
    return this.list(TokenKind.PAREN_L, TokenKind.PAREN_R, () => {
      const comment = this.comment;
      this.expect(TokenKind.DOLLAR);
      const name = this.name();
      this.expect(TokenKind.COLON);
      const type = this.type();
      const value = this.skip(TokenKind.EQUALS) ? this.value(true) : undefined;
      const directives = this.directives(false);
      return {
        Variable: name,
        Type: type,
        DefaultValue: value,
        Directives: directives,
        Comment: comment,
        Used: false,
      };
    }).all;
  }

  private selections(): Tree[] {
    if (!this.is(TokenKind.BRACE_L)) this.fail();
    return this.fields(() => (this.is(TokenKind.SPREAD) ? this.spread() : this.field())).all;
  }

  private field(): Tree {
    const comment = this.comment;
    const alias = this.name();
    const name = this.skip(TokenKind.COLON) ? this.name() : alias;
    const args = this.arguments(false);
    const directives = this.directives(false);
    const selections = this.is(TokenKind.BRACE_L) ? this.selections() : [];
    return {
      Alias: alias,
      Name: name,
      Arguments: args,
      Directives: directives,
      SelectionSet: selections,
      Comment: comment,
    };
  }

  private spread(): Tree {
    const comment = this.comment;
    this.expect(TokenKind.SPREAD);
    if (this.is(TokenKind.NAME) && this.token.value !== 'on') {
      const name = this.name();
      return { Name: name, Directives: this.directives(false), Comment: comment };
    }
    const condition = this.skip(TokenKind.NAME, 'on') ? this.name() : '';
    const directives = this.directives(false);
    return { TypeCondition: condition, Directives: directives, SelectionSet: this.selections(), Comment: comment };
  }

  private fragmentDefinition(): Tree {
    const comment = this.comment;
    this.expect(TokenKind.NAME, 'fragment');
    if (this.is(TokenKind.NAME, 'on')) this.fail();
    const name = this.name();
    const variables = this.variables();
    this.expect(TokenKind.NAME, 'on');
    const condition = this.name();
    const directives = this.directives(false);
    return {
      Name: name,
      VariableDefinition: variables,
      TypeCondition: condition,
      Directives: directives,
      SelectionSet: this.selections(),
      Comment: comment,
    };
  }

  private arguments(isConst: boolean): Tree[] {
    return this.list(TokenKind.PAREN_L, TokenKind.PAREN_R, () => this.member(isConst)).all;
  }

  private member(isConst: boolean): Tree {
    const comment = this.comment;
    const name = this.name();
    this.expect(TokenKind.COLON);
    return { Name: name, Value: this.value(isConst), Comment: comment };
  }

  private value(isConst: boolean): Tree {
    const comment = this.comment;
    const simple = (kind: number, raw: string): Tree => ({ Raw: raw, Kind: kind, ExpectedTypeHasDefault: false });
    const many = (kind: number, children: Tree[]): Tree => ({
      ...simple(kind, ''),
      Children: children,
      Comment: comment,
    });
    const token = this.token;
    switch (token.kind) {
      case TokenKind.BRACKET_L: {
        const item = (): Tree => ({ Name: '', Value: this.value(isConst) });
        return many(VALUE.list, this.list(TokenKind.BRACKET_L, TokenKind.BRACKET_R, item, true).all);
      }
      case TokenKind.BRACE_L: {
        const member = (): Tree => this.member(isConst);
        return many(VALUE.object, this.list(TokenKind.BRACE_L, TokenKind.BRACE_R, member, true).all);
      }
      case TokenKind.DOLLAR:
        if (isConst) return this.fail();
        this.next();
        return simple(VALUE.variable, this.name());
      case TokenKind.INT:
        return simple(VALUE.int, this.next().value);
      case TokenKind.FLOAT:
        return simple(VALUE.float, this.next().value);
      case TokenKind.STRING:
        return simple(VALUE.string, this.string());
      case TokenKind.BLOCK_STRING:
        return simple(VALUE.block, this.string());
      case TokenKind.NAME: {
        const word = this.name();
        if (word === 'true' || word === 'false') return simple(VALUE.boolean, word);
        return simple(word === 'null' ? VALUE.null : VALUE.enum, word);
      }
      default:
        return this.fail();
    }
  }

  private string(): string {
    const { kind, start, end } = this.token;
    const { value } = this.next();
    const source = this.lexer.source.body.slice(start, end);
    if (kind === TokenKind.BLOCK_STRING) return blockText(source.slice(3, -3));
    // An escape younger than gqlparser.
    for (const [escape] of source.matchAll(/\\(?:u\{|[^])/g)) if (escape === '\\u{') this.fail();
    return value;
  }

  private directives(isConst: boolean): Tree[] {
    const directives: Tree[] = [];
    while (this.skip(TokenKind.AT)) {
      const name = this.name();
      directives.push({ Name: name, Arguments: this.arguments(isConst), Location: '' });
    }
    return directives;
  }

  private type(): Tree {
    let type: Tree;
    if (this.skip(TokenKind.BRACKET_L)) {
      const inner = this.nested(() => this.type());
      this.expect(TokenKind.BRACKET_R);
      type = { NamedType: '', Elem: inner };
    } else type = { NamedType: this.name() };
    return { ...type, NonNull: this.skip(TokenKind.BANG) };
  }

  schema(): Tree {
    const schemas: Tree[] = [];
    const schemaExtensions: Tree[] = [];
    const directives: Tree[] = [];
    const definitions: Tree[] = [];
    const extensions: Tree[] = [];
    while (!this.is(TokenKind.EOF)) {
      const { text, comment } = this.description();
      const around = { Description: text, BeforeDescriptionComment: comment, AfterDescriptionComment: this.comment };
      if (this.skip(TokenKind.NAME, 'extend')) {
        if (text !== '') this.fail();
        const target = this.is(TokenKind.NAME, 'schema') ? schemaExtensions : extensions;
        const extended = { Description: '', AfterDescriptionComment: around.AfterDescriptionComment };
        target.push(target === extensions ? this.extension(extended) : this.schemaDefinition(extended, true));
      } else if (this.is(TokenKind.NAME, 'schema')) schemas.push(this.schemaDefinition(around, false));
      else if (this.is(TokenKind.NAME, 'directive')) directives.push(this.directiveDefinition(around));
      else definitions.push(this.definition(around, false));
    }
    return {
      Schema: schemas,
      SchemaExtension: schemaExtensions,
      Directives: directives,
      Definitions: definitions,
      Extensions: extensions,
      Comment: this.comment,
    };
  }

  private description(): { text: string; comment: Tree | undefined } {
    const comment = this.comment;
    if (!this.is(TokenKind.STRING) && !this.is(TokenKind.BLOCK_STRING)) return { text: '', comment: undefined };
    return { text: this.string(), comment };
  }

  private schemaDefinition(around: Tree, isExtension: boolean): Tree {
    this.expect(TokenKind.NAME, 'schema');
    const directives = this.directives(true);
    const { all, end } = this.fields(() => {
      const comment = this.comment;
      const operation = this.operationType();
      this.expect(TokenKind.COLON);
      return { Operation: operation, Type: this.name(), Comment: comment };
    });
    if (isExtension && directives.length + all.length === 0) this.fail();
    return { ...around, Directives: directives, OperationTypes: all, EndOfDefinitionComment: end };
  }

  private extension(around: Tree): Tree {
    const isInterface = this.is(TokenKind.NAME, 'interface');
    const definition = this.definition(around, true);
    const isEmpty = ['Directives', 'Interfaces', 'Fields', 'Types', 'EnumValues'].every((name) => {
      const member = definition[name];
      return !Array.isArray(member) || member.length === 0;
    });
    // gqlparser knows no interfaces that interfaces are extended with.
    const interfaces = definition['Interfaces'];
    if (isEmpty || (isInterface && Array.isArray(interfaces) && interfaces.length > 0)) this.fail();
    return definition;
  }

  private definition(around: Tree, isExtension: boolean): Tree {
    const kind = this.is(TokenKind.NAME) ? KINDS.get(this.token.value) : undefined;
    if (kind === undefined) return this.fail();
    this.next();
    const name = this.name();
    const interfaces = kind === 'OBJECT' || kind === 'INTERFACE' ? this.interfaces() : [];
    // gqlparser takes variables in what extends an input object.
    const directives = this.directives(!(isExtension && kind === 'INPUT_OBJECT'));
    const common = {
      ...around,
      Kind: kind,
      Name: name,
      BuiltIn: false,
      Directives: directives,
      Interfaces: interfaces,
    };
    switch (kind) {
      case 'SCALAR':
        return common;
      case 'UNION':
        return { ...common, Types: this.unionTypes() };
      case 'ENUM': {
        const { all, end } = this.fields(() => this.enumValue());
        return { ...common, EnumValues: all, EndOfDefinitionComment: end };
      }
      default: {
        const { all, end } = this.fields(() => this.inputValue(kind === 'INPUT_OBJECT' ? 'input' : 'field'));
        return { ...common, Fields: all, EndOfDefinitionComment: end };
      }
    }
  }

  private separated(separator: TokenKind): string[] {
    this.skip(separator);
    const names = [this.name()];
    while (this.skip(separator)) names.push(this.name());
    return names;
  }

  private interfaces(): string[] {
    return this.skip(TokenKind.NAME, 'implements') ? this.separated(TokenKind.AMP) : [];
  }

  private unionTypes(): string[] {
    return this.skip(TokenKind.EQUALS) ? this.separated(TokenKind.PIPE) : [];
  }

  /** What stands before a field, an argument or a value of an enumeration. */
  private memberDescription(): Tree {
    const { text, comment } = this.description();
    return {
      Description: text,
      BeforeDescriptionComment: text === '' ? undefined : comment,
      AfterDescriptionComment: this.comment,
    };
  }

  private enumValue(): Tree {
    const around = this.memberDescription();
    const name = this.name();
    return { ...around, Name: name, Directives: this.directives(true) };
  }

  private inputValue(kind: 'input' | 'field'): Tree {
    const around = this.memberDescription();
    const name = this.name();
    const args = kind === 'field' ? this.argumentDefinitions() : undefined;
    this.expect(TokenKind.COLON);
    const type = this.type();
    const value = kind === 'input' && this.skip(TokenKind.EQUALS) ? this.value(true) : undefined;
    const directives = this.directives(true);
    return { ...around, Name: name, Arguments: args, Type: type, DefaultValue: value, Directives: directives };
  }

  private argumentDefinitions(): Tree[] {
    return this.list(TokenKind.PAREN_L, TokenKind.PAREN_R, () => this.inputValue('input')).all;
  }

  private directiveDefinition(around: Tree): Tree {
    this.expect(TokenKind.NAME, 'directive');
    this.expect(TokenKind.AT);
    const name = this.name();
    const args = this.argumentDefinitions();
    const isRepeatable = this.skip(TokenKind.NAME, 'repeatable');
    this.expect(TokenKind.NAME, 'on');
    const locations = this.separated(TokenKind.PIPE);
    if (!locations.every((location) => LOCATIONS.has(location))) this.fail();
    return { ...around, Name: name, Arguments: args, IsRepeatable: isRepeatable, Locations: locations };
  }
}

/** Throw `BuiltinError` on text that is no GraphQL; nothing is checked besides the grammar. */
export const parseQuery = (source: string): Tree => new GraphqlParser(source).query();
export const parseSchema = (source: string): Tree => new GraphqlParser(source).schema();
