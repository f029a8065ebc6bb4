import { BuiltinError } from './builtin.ts';
import { isArray, RegoObject, type Value } from './value.ts';

/** A node of gqlparser's tree, its members under Go's names. What a document does not say is absent. */
export interface Tree {
  readonly [name: string]: Tree | readonly Tree[] | readonly string[] | string | number | boolean | undefined;
}

/** `text`, `flag` and `number` are always there, with Go's zero when nothing is given. */
type Kind = 'text' | 'flag' | 'number' | 'texts' | { readonly one: Shape } | { readonly many: Shape };
type Shape = () => Readonly<Record<string, Kind>>;

const one = (shape: Shape): Kind => ({ one: shape });
const many = (shape: Shape): Kind => ({ many: shape });

const comment: Shape = () => ({ Value: 'text' });
const comments: Shape = () => ({ List: many(comment) });
const value: Shape = () => ({
  Raw: 'text',
  Children: many(child),
  Kind: 'number',
  Comment: one(comments),
  ExpectedTypeHasDefault: 'flag',
});
const child: Shape = () => ({ Name: 'text', Value: one(value), Comment: one(comments) });
const argument: Shape = child;
const directive: Shape = () => ({ Name: 'text', Arguments: many(argument), Location: 'text' });
const type: Shape = () => ({ NamedType: 'text', Elem: one(type), NonNull: 'flag' });
const variable: Shape = () => ({
  Variable: 'text',
  Type: one(type),
  DefaultValue: one(value),
  Directives: many(directive),
  Comment: one(comments),
  Used: 'flag',
});
/** gqlparser reads every selection of a tree as a field, and its own comments not at all. */
const selection: Shape = () => ({
  Alias: 'text',
  Name: 'text',
  Arguments: many(argument),
  Directives: many(directive),
  SelectionSet: many(selection),
});
const operation: Shape = () => ({
  Operation: 'text',
  Name: 'text',
  VariableDefinitions: many(variable),
  Directives: many(directive),
  SelectionSet: many(selection),
});
const fragment: Shape = () => ({
  Name: 'text',
  VariableDefinition: many(variable),
  TypeCondition: 'text',
  Directives: many(directive),
  SelectionSet: many(selection),
});
const query: Shape = () => ({ Operations: many(operation), Fragments: many(fragment), Comment: one(comments) });

const around = { BeforeDescriptionComment: one(comments), AfterDescriptionComment: one(comments) } as const;
const argumentDefinition: Shape = () => ({
  Description: 'text',
  Name: 'text',
  DefaultValue: one(value),
  Type: one(type),
  Directives: many(directive),
  ...around,
});
const fieldDefinition: Shape = () => ({ ...argumentDefinition(), Arguments: many(argumentDefinition) });
const enumValue: Shape = () => ({ Description: 'text', Name: 'text', Directives: many(directive), ...around });
const definition: Shape = () => ({
  Kind: 'text',
  Description: 'text',
  Name: 'text',
  Directives: many(directive),
  Interfaces: 'texts',
  Fields: many(fieldDefinition),
  Types: 'texts',
  EnumValues: many(enumValue),
  BuiltIn: 'flag',
  ...around,
  EndOfDefinitionComment: one(comments),
});
const directiveDefinition: Shape = () => ({
  Description: 'text',
  Name: 'text',
  Arguments: many(argumentDefinition),
  Locations: 'texts',
  IsRepeatable: 'flag',
  ...around,
});
const operationType: Shape = () => ({ Operation: 'text', Type: 'text', Comment: one(comments) });
const schemaDefinition: Shape = () => ({
  Description: 'text',
  Directives: many(directive),
  OperationTypes: many(operationType),
  ...around,
  EndOfDefinitionComment: one(comments),
});
const schema: Shape = () => ({
  Schema: many(schemaDefinition),
  SchemaExtension: many(schemaDefinition),
  Directives: many(directiveDefinition),
  Definitions: many(definition),
  Extensions: many(definition),
  Comment: one(comments),
});

const wrong = (name: string): never => {
  throw new BuiltinError(`no GraphQL tree: ${name}`);
};

const items = (member: Value, name: string): readonly Value[] => {
  if (member === null) return [];
  return typeof member === 'object' && isArray(member) ? member : wrong(name);
};

const read = (from: Value, shape: Shape, name: string): Tree => {
  if (!(from instanceof RegoObject)) return wrong(name);
  const node: Record<string, Tree[string]> = {};
  for (const [key, kind] of Object.entries(shape())) {
    const member = from.get(key) ?? null;
    if (kind === 'text') node[key] = member === null ? '' : typeof member === 'string' ? member : wrong(key);
    else if (kind === 'flag') node[key] = member === null ? false : typeof member === 'boolean' ? member : wrong(key);
    else if (kind === 'number') node[key] = member === null ? 0 : typeof member === 'number' ? member : wrong(key);
    else if (kind === 'texts')
      node[key] = items(member, key).map((item) => (typeof item === 'string' ? item : wrong(key)));
    else if ('many' in kind) node[key] = items(member, key).map((item) => read(item, kind.many, key));
    else if (member !== null) node[key] = read(member, kind.one, key);
  }
  return node;
};

/** The tree of a query, or of a schema, that a policy made or took from a parser. Throws `BuiltinError`. */
export const queryTree = (from: Value): Tree => read(from, query, 'query');
export const schemaTree = (from: Value): Tree => read(from, schema, 'schema');

/** The tree as the policy sees it: without empty members. */
export const treeValue = (tree: Tree): RegoObject => {
  const members: [string, Value][] = [];
  for (const [name, member] of Object.entries(tree)) {
    if (member === undefined) continue;
    if (typeof member !== 'object') members.push([name, member]);
    else if (Array.isArray(member)) {
      const list = (member as readonly (Tree | string)[])
        .map((item) => (typeof item === 'string' ? item : treeValue(item)))
        .filter((item) => typeof item === 'string' || item.entries.length > 0);
      if (list.length > 0) members.push([name, list]);
    } else {
      const inner = treeValue(member as Tree);
      if (inner.entries.length > 0) members.push([name, inner]);
    }
  }
  return RegoObject.of(members);
};
