import { Kind, OperationTypeNode, type ConstDirectiveNode, type DefinitionNode, type DocumentNode } from 'graphql';
import type {
  ConstValueNode,
  DirectiveNode,
  FieldDefinitionNode,
  InputValueDefinitionNode,
  NamedTypeNode,
  NameNode,
  OperationTypeDefinitionNode,
  SelectionNode,
  SelectionSetNode,
  TypeNode,
  ValueNode,
  VariableDefinitionNode,
} from 'graphql';
import { BuiltinError } from './builtin.ts';
import type { Tree } from './graphql-tree.ts';

// From gqlparser's tree to that of graphql-js, whose rules then check it.

const wrong = (what: string): never => {
  throw new BuiltinError(`no GraphQL tree: ${what}`);
};

const text = (tree: Tree, name: string): string => {
  const member = tree[name];
  return typeof member === 'string' ? member : '';
};

const many = (tree: Tree, name: string): readonly Tree[] => {
  const member = tree[name];
  return Array.isArray(member) ? (member as readonly Tree[]) : [];
};

const texts = (tree: Tree, name: string): readonly string[] => {
  const member = tree[name];
  return Array.isArray(member) ? (member as readonly string[]) : [];
};

const one = (tree: Tree, name: string): Tree | undefined => {
  const member = tree[name];
  return typeof member === 'object' && !Array.isArray(member) ? (member as Tree) : undefined;
};

const nameNode = (value: string): NameNode => ({ kind: Kind.NAME, value });
const namedType = (value: string): NamedTypeNode => ({ kind: Kind.NAMED_TYPE, name: nameNode(value) });

const typeNode = (tree: Tree | undefined): TypeNode => {
  if (tree === undefined) return wrong('a type');
  const element = one(tree, 'Elem');
  const type =
    element === undefined
      ? namedType(text(tree, 'NamedType'))
      : ({ kind: Kind.LIST_TYPE, type: typeNode(element) } as const);
  return tree['NonNull'] === true ? { kind: Kind.NON_NULL_TYPE, type } : type;
};

const valueNode = (tree: Tree | undefined): ValueNode => {
  if (tree === undefined) return wrong('a value');
  const raw = text(tree, 'Raw');
  switch (tree['Kind']) {
    case 0:
      return { kind: Kind.VARIABLE, name: nameNode(raw) };
    case 1:
      return { kind: Kind.INT, value: raw };
    case 2:
      return { kind: Kind.FLOAT, value: raw };
    case 3:
      return { kind: Kind.STRING, value: raw };
    case 4:
      return { kind: Kind.STRING, value: raw, block: true };
    case 5:
      return { kind: Kind.BOOLEAN, value: raw === 'true' };
    case 6:
      return { kind: Kind.NULL };
    case 7:
      return { kind: Kind.ENUM, value: raw };
    case 8:
      return { kind: Kind.LIST, values: many(tree, 'Children').map((child) => valueNode(one(child, 'Value'))) };
    case 9:
      return {
        kind: Kind.OBJECT,
        fields: many(tree, 'Children').map((child) => ({
          kind: Kind.OBJECT_FIELD,
          name: nameNode(text(child, 'Name')),
          value: valueNode(one(child, 'Value')),
        })),
      };
    default:
      return wrong('a kind of value');
  }
};

// In a schema and in a default the parser takes no variables; a tree that has some fails the rules.
const constValue = (tree: Tree): ConstValueNode => valueNode(tree) as ConstValueNode;

const directives = (tree: Tree): readonly DirectiveNode[] =>
  many(tree, 'Directives').map((directive) => ({
    kind: Kind.DIRECTIVE,
    name: nameNode(text(directive, 'Name')),
    arguments: argumentNodes(directive),
  }));

const constDirectives = (tree: Tree): readonly ConstDirectiveNode[] => directives(tree) as ConstDirectiveNode[];

const argumentNodes = (tree: Tree) =>
  many(tree, 'Arguments').map((argument) => ({
    kind: Kind.ARGUMENT as const,
    name: nameNode(text(argument, 'Name')),
    value: valueNode(one(argument, 'Value')),
  }));

const selectionSet = (tree: Tree): SelectionSetNode => ({
  kind: Kind.SELECTION_SET,
  selections: many(tree, 'SelectionSet').map(selectionNode),
});

const selectionNode = (tree: Tree): SelectionNode => {
  if (tree['TypeCondition'] !== undefined) {
    const condition = text(tree, 'TypeCondition');
    return {
      kind: Kind.INLINE_FRAGMENT,
      directives: directives(tree),
      selectionSet: selectionSet(tree),
      ...(condition === '' ? {} : { typeCondition: namedType(condition) }),
    };
  }
  const name = text(tree, 'Name');
  if (tree['Alias'] === undefined)
    return { kind: Kind.FRAGMENT_SPREAD, name: nameNode(name), directives: directives(tree) };
  const alias = text(tree, 'Alias');
  return {
    kind: Kind.FIELD,
    name: nameNode(name),
    arguments: argumentNodes(tree),
    directives: directives(tree),
    ...(alias === name || alias === '' ? {} : { alias: nameNode(alias) }),
    ...(many(tree, 'SelectionSet').length > 0 ? { selectionSet: selectionSet(tree) } : {}),
  };
};

const variableNodes = (trees: readonly Tree[]): readonly VariableDefinitionNode[] =>
  trees.map((tree) => {
    const value = one(tree, 'DefaultValue');
    return {
      kind: Kind.VARIABLE_DEFINITION,
      variable: { kind: Kind.VARIABLE, name: nameNode(text(tree, 'Variable')) },
      type: typeNode(one(tree, 'Type')),
      directives: constDirectives(tree),
      ...(value === undefined ? {} : { defaultValue: constValue(value) }),
    };
  });

const operationType = (value: string): OperationTypeNode => {
  switch (value) {
    case 'mutation':
      return OperationTypeNode.MUTATION;
    case 'subscription':
      return OperationTypeNode.SUBSCRIPTION;
    case 'query':
      return OperationTypeNode.QUERY;
    default:
      return wrong('an operation');
  }
};

export const queryDocument = (tree: Tree): DocumentNode => ({
  kind: Kind.DOCUMENT,
  definitions: [
    ...many(tree, 'Operations').map((operation): DefinitionNode => {
      const name = text(operation, 'Name');
      return {
        kind: Kind.OPERATION_DEFINITION,
        operation: operationType(text(operation, 'Operation')),
        variableDefinitions: variableNodes(many(operation, 'VariableDefinitions')),
        directives: directives(operation),
        selectionSet: selectionSet(operation),
        ...(name === '' ? {} : { name: nameNode(name) }),
      };
    }),
    ...many(tree, 'Fragments').map((fragment): DefinitionNode => ({
      kind: Kind.FRAGMENT_DEFINITION,
      name: nameNode(text(fragment, 'Name')),
      typeCondition: namedType(text(fragment, 'TypeCondition')),
      directives: directives(fragment),
      selectionSet: selectionSet(fragment),
    })),
  ],
});

const inputValue = (tree: Tree): InputValueDefinitionNode => {
  const value = one(tree, 'DefaultValue');
  return {
    kind: Kind.INPUT_VALUE_DEFINITION,
    name: nameNode(text(tree, 'Name')),
    type: typeNode(one(tree, 'Type')),
    directives: constDirectives(tree),
    ...(value === undefined ? {} : { defaultValue: constValue(value) }),
  };
};

const field = (tree: Tree): FieldDefinitionNode => ({
  kind: Kind.FIELD_DEFINITION,
  name: nameNode(text(tree, 'Name')),
  arguments: many(tree, 'Arguments').map(inputValue),
  type: typeNode(one(tree, 'Type')),
  directives: constDirectives(tree),
});

const typeDefinition = (tree: Tree, isExtension: boolean): DefinitionNode => {
  const common = { name: nameNode(text(tree, 'Name')), directives: constDirectives(tree) };
  const interfaces = texts(tree, 'Interfaces').map(namedType);
  switch (text(tree, 'Kind')) {
    case 'SCALAR':
      return { ...common, kind: isExtension ? Kind.SCALAR_TYPE_EXTENSION : Kind.SCALAR_TYPE_DEFINITION };
    case 'OBJECT':
      return {
        ...common,
        kind: isExtension ? Kind.OBJECT_TYPE_EXTENSION : Kind.OBJECT_TYPE_DEFINITION,
        interfaces,
        fields: many(tree, 'Fields').map(field),
      };
    case 'INTERFACE':
      return {
        ...common,
        kind: isExtension ? Kind.INTERFACE_TYPE_EXTENSION : Kind.INTERFACE_TYPE_DEFINITION,
        interfaces,
        fields: many(tree, 'Fields').map(field),
      };
    case 'UNION':
      return {
        ...common,
        kind: isExtension ? Kind.UNION_TYPE_EXTENSION : Kind.UNION_TYPE_DEFINITION,
        types: texts(tree, 'Types').map(namedType),
      };
    case 'ENUM':
      return {
        ...common,
        kind: isExtension ? Kind.ENUM_TYPE_EXTENSION : Kind.ENUM_TYPE_DEFINITION,
        values: many(tree, 'EnumValues').map((value) => ({
          kind: Kind.ENUM_VALUE_DEFINITION,
          name: nameNode(text(value, 'Name')),
          directives: constDirectives(value),
        })),
      };
    case 'INPUT_OBJECT':
      return {
        ...common,
        kind: isExtension ? Kind.INPUT_OBJECT_TYPE_EXTENSION : Kind.INPUT_OBJECT_TYPE_DEFINITION,
        fields: many(tree, 'Fields').map(inputValue),
      };
    default:
      return wrong('a kind of type');
  }
};

const operationTypes = (tree: Tree): readonly OperationTypeDefinitionNode[] =>
  many(tree, 'OperationTypes').map((operation) => ({
    kind: Kind.OPERATION_TYPE_DEFINITION,
    operation: operationType(text(operation, 'Operation')),
    type: namedType(text(operation, 'Type')),
  }));

/** An extension of a type that nothing defines is its definition, to gqlparser. */
const typeDefinitions = (tree: Tree): readonly DefinitionNode[] => {
  const known = new Set(many(tree, 'Definitions').map((definition) => text(definition, 'Name')));
  return [
    ...many(tree, 'Definitions').map((definition) => typeDefinition(definition, false)),
    ...many(tree, 'Extensions').map((extension) => {
      const name = text(extension, 'Name');
      const isExtension = known.has(name);
      known.add(name);
      return typeDefinition(extension, isExtension);
    }),
  ];
};

export const schemaDocument = (tree: Tree): DocumentNode => ({
  kind: Kind.DOCUMENT,
  definitions: [
    ...many(tree, 'Schema').map((schema): DefinitionNode => ({
      kind: Kind.SCHEMA_DEFINITION,
      directives: constDirectives(schema),
      operationTypes: operationTypes(schema),
    })),
    ...many(tree, 'SchemaExtension').map((schema): DefinitionNode => ({
      kind: Kind.SCHEMA_EXTENSION,
      directives: constDirectives(schema),
      operationTypes: operationTypes(schema),
    })),
    ...many(tree, 'Directives').map((directive): DefinitionNode => ({
      kind: Kind.DIRECTIVE_DEFINITION,
      name: nameNode(text(directive, 'Name')),
      arguments: many(directive, 'Arguments').map(inputValue),
      repeatable: directive['IsRepeatable'] === true,
      locations: texts(directive, 'Locations').map(nameNode),
    })),
    ...typeDefinitions(tree),
  ],
});
