import {
  buildASTSchema,
  concatAST,
  GraphQLError,
  Kind,
  parse,
  specifiedRules,
  UniqueArgumentDefinitionNamesRule,
  UniqueDirectivesPerLocationRule,
  UniqueOperationTypesRule,
  validate,
  validateSchema,
  type ASTVisitor,
  type DirectiveDefinitionNode,
  type DirectiveNode,
  type DocumentNode,
  type GraphQLSchema,
  type ValidationContext,
} from 'graphql';
import { specifiedSDLRules } from 'graphql/validation/specifiedRules.js';
import { validateSDL } from 'graphql/validation/validate.js';
import type { SDLValidationRule as SDLRule } from 'graphql/validation/ValidationContext.js';
import { BuiltinError, BuiltinHalt, type Builtin, type Builtins } from './builtin.ts';
import { queryDocument, schemaDocument } from './graphql-document.ts';
import { parseQuery, parseSchema } from './graphql-parser.ts';
import { queryTree, schemaTree, treeValue, type Tree } from './graphql-tree.ts';
import { RegoObject, type Value } from './value.ts';

/** Longest text of a query or a schema, UTF-16 units. Checking fields that overlap takes more than linear time. */
const MAX_SOURCE = 256 * 1024;

/** What gqlparser defines itself; it takes no second definition of these types. */
const OWN_TYPES: ReadonlySet<string> = new Set([
  'Int',
  'Float',
  'String',
  'Boolean',
  'ID',
  '__Schema',
  '__Type',
  '__TypeKind',
  '__Field',
  '__InputValue',
  '__EnumValue',
  '__Directive',
  '__DirectiveLocation',
]);

const DEFER = parse(
  'directive @defer(if: Boolean = true, label: String) on FRAGMENT_SPREAD | INLINE_FRAGMENT',
).definitions;

/** graphql-js objects to these, gqlparser does not. */
const TOLERATED = new RegExp(
  [
    '^Query root type must be provided',
    'must define one or more member types',
    'cannot be deprecated\\.$',
    'can only implement .* once\\.$',
    'cannot implement itself',
    'root type must be Object type',
    '^OneOf input field ',
    '^Int cannot represent non 32-bit signed integer value',
  ].join('|'),
);

const LENIENT: ReadonlySet<SDLRule> = new Set<SDLRule>([
  UniqueOperationTypesRule,
  UniqueArgumentDefinitionNamesRule,
  UniqueDirectivesPerLocationRule,
]);

/** gqlparser's own rules for directives in a schema; what a type has may come from several places, and may repeat. */
const directiveUse: SDLRule = (context) => {
  const definitions = new Map<string, DirectiveDefinitionNode>();
  for (const definition of context.getDocument().definitions)
    if (definition.kind === Kind.DIRECTIVE_DEFINITION) definitions.set(definition.name.value, definition);
  const report = (message: string): void => context.reportError(new GraphQLError(message));
  const unique = ({ directives = [] }: { readonly directives?: readonly DirectiveNode[] }): void => {
    const seen = new Set<string>();
    for (const { name } of directives) {
      if (seen.has(name.value) && definitions.get(name.value)?.repeatable !== true) report('a directive used twice');
      seen.add(name.value);
    }
  };
  return {
    FieldDefinition: unique,
    InputValueDefinition: unique,
    EnumValueDefinition: unique,
    SchemaDefinition: unique,
    SchemaExtension: unique,
    DirectiveDefinition: ({ name, arguments: parameters = [] }) => {
      const used = parameters.flatMap(({ directives = [] }) => directives);
      if (used.some((directive) => directive.name.value === name.value)) report('a directive refers to itself');
    },
    Directive: ({ name, arguments: given = [] }) => {
      for (const parameter of definitions.get(name.value)?.arguments ?? []) {
        if (parameter.type.kind !== Kind.NON_NULL_TYPE || parameter.defaultValue !== undefined) continue;
        const argument = given.find((candidate) => candidate.name.value === parameter.name.value);
        if (argument?.value.kind === Kind.NULL) report('a required argument is null');
      }
    },
  };
};

const SCHEMA_RULES = [...specifiedSDLRules.filter((rule) => !LENIENT.has(rule)), directiveUse];

const bounded = (source: string): string => {
  if (source.length > MAX_SOURCE) throw new BuiltinHalt(`a GraphQL text of ${source.length} characters`);
  return source;
};

const treeOf = (value: Value | undefined, parseText: (source: string) => Tree, read: (from: Value) => Tree): Tree => {
  if (typeof value === 'string') return parseText(bounded(value));
  if (value instanceof RegoObject) return read(value);
  throw new BuiltinError('a string or an object expected');
};

const querySource = (value: Value | undefined): Tree => treeOf(value, parseQuery, queryTree);
const schemaSource = (value: Value | undefined): Tree => treeOf(value, parseSchema, schemaTree);

const check = (errors: readonly GraphQLError[]): void => {
  // graphql-js bounds the comparisons of fields that overlap.
  if (errors.some(({ message }) => message === 'Validation aborted.'))
    throw new BuiltinHalt('a GraphQL query that takes too long to check');
  const error = errors.find(({ message }) => !TOLERATED.test(message));
  if (error !== undefined) throw new BuiltinError(error.message);
};

const definesDefer = ({ definitions }: DocumentNode): boolean =>
  definitions.some((definition) => definition.kind === Kind.DIRECTIVE_DEFINITION && definition.name.value === 'defer');

/** The checked schema of a tree. Throws `BuiltinError`. */
const schemaOf = (tree: Tree): GraphQLSchema => {
  const own = schemaDocument(tree);
  for (const definition of own.definitions) {
    if (
      definition.kind.endsWith('TypeDefinition') &&
      'name' in definition &&
      OWN_TYPES.has(definition.name?.value ?? '')
    )
      throw new BuiltinError(`Cannot redeclare type ${definition.name?.value}.`);
    if (definition.kind === Kind.ENUM_TYPE_DEFINITION || definition.kind === Kind.ENUM_TYPE_EXTENSION) {
      const reserved = definition.values?.find(({ name }) => ['true', 'false', 'null'].includes(name.value));
      if (reserved !== undefined) throw new BuiltinError(`non-enum value ${reserved.name.value}`);
    }
  }
  const document: DocumentNode = definesDefer(own)
    ? own
    : concatAST([own, { kind: Kind.DOCUMENT, definitions: DEFER }]);
  try {
    check(validateSDL(document, null, SCHEMA_RULES));
    check(validateSchema(buildASTSchema(document, { assumeValidSDL: true })));
    return buildASTSchema(document, { assumeValid: true });
  } catch (cause) {
    if (cause instanceof BuiltinError) throw cause;
    throw new BuiltinError('no GraphQL schema', { cause });
  }
};

/** GraphQL leaves a missing root type to the execution; gqlparser refuses the query. */
const knownRootType = (context: ValidationContext): ASTVisitor => ({
  OperationDefinition: (node) => {
    if (!context.getSchema().getRootType(node.operation))
      context.reportError(new GraphQLError(`Schema does not support operation type "${node.operation}"`));
  },
});

const RULES = [...specifiedRules, knownRootType];

const checkQuery = (schema: GraphQLSchema, query: Tree): void => {
  check(validate(schema, queryDocument(query), RULES));
};

/** The trees of a query and a schema that fit each other. Throws `BuiltinError`. */
const verified = (query: Value | undefined, schema: Value | undefined): readonly [RegoObject, RegoObject] => {
  const queryPart = querySource(query);
  const schemaPart = schemaSource(schema);
  checkQuery(schemaOf(schemaPart), queryPart);
  return [treeValue(queryPart), treeValue(schemaPart)];
};

const onlyText = (value: Value | undefined): string => {
  if (typeof value !== 'string') throw new BuiltinError('a string expected');
  return bounded(value);
};

/** The value, or the other one in case of an error. */
const orElse = (compute: () => Value, otherwise: Value): Value => {
  try {
    return compute();
  } catch (error) {
    if (error instanceof BuiltinError) return otherwise;
    throw error;
  }
};

const NOTHING = RegoObject.of([]);

const parseAndVerify: Builtin = (_, query, schema) =>
  orElse(() => [true, ...verified(query, schema)], [false, NOTHING, NOTHING]);

export const graphqlBuiltins: Builtins = {
  'graphql.parse': (_, query, schema) => verified(query, schema),
  'graphql.parse_and_verify': parseAndVerify,
  'graphql.parse_query': (_, query) => treeValue(parseQuery(onlyText(query))),
  'graphql.parse_schema': (_, schema) => treeValue(parseSchema(onlyText(schema))),
  'graphql.is_valid': (_, query, schema) =>
    orElse(() => {
      checkQuery(schemaOf(schemaSource(schema)), querySource(query));
      return true;
    }, false),
  'graphql.schema_is_valid': (_, schema) =>
    orElse(() => {
      schemaOf(schemaSource(schema));
      return true;
    }, false),
};
