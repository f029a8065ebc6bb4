import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { graphqlBuiltins } from '../../../../services/pdp/policy/engine/graphql.ts';
import { printedAnswerOf } from './call-builtin.ts';

const call = (name: string, args: string): string => printedAnswerOf(graphqlBuiltins, name, args);

/** As OPA 1.22.2 evaluates them. */
const cases: readonly (readonly [name: string, args: string, result: string])[] = [
  [
    'graphql.parse_query',
    '"{a}"',
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"query Q { a }"',
    '{"Operations":[{"Name":"Q","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}]}]}',
  ],
  [
    'graphql.parse_query',
    String.raw`"{ a(# c\n x: 1) }"`,
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Arguments":[{"Comment":{"List":[{"Value":"# c"}]},"Name":"x","Value":{"ExpectedTypeHasDefault":false,"Kind":1,"Raw":"1"}}],"Name":"a"}]}]}',
  ],
  [
    'graphql.parse_query',
    String.raw`"{ a(x: {# c\n k: 1}) }"`,
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Arguments":[{"Name":"x","Value":{"Children":[{"Comment":{"List":[{"Value":"# c"}]},"Name":"k","Value":{"ExpectedTypeHasDefault":false,"Kind":1,"Raw":"1"}}],"ExpectedTypeHasDefault":false,"Kind":9,"Raw":""}}],"Name":"a"}]}]}',
  ],
  [
    'graphql.parse_query',
    String.raw`"{ # c\n ...F }"`,
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Comment":{"List":[{"Value":"# c"}]},"Name":"F"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"{ ... @include(if: true) { a } }"',
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Directives":[{"Arguments":[{"Name":"if","Value":{"ExpectedTypeHasDefault":false,"Kind":5,"Raw":"true"}}],"Location":"","Name":"include"}],"SelectionSet":[{"Alias":"a","Name":"a"}],"TypeCondition":""}]}]}',
  ],
  [
    'graphql.parse_query',
    '"fragment F($a: Int = 1) on T { a }"',
    '{"Fragments":[{"Name":"F","SelectionSet":[{"Alias":"a","Name":"a"}],"TypeCondition":"T","VariableDefinition":[{"DefaultValue":{"ExpectedTypeHasDefault":false,"Kind":1,"Raw":"1"},"Type":{"NamedType":"Int","NonNull":false},"Used":false,"Variable":"a"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"mutation M { a } subscription S { b }"',
    '{"Operations":[{"Name":"M","Operation":"mutation","SelectionSet":[{"Alias":"a","Name":"a"}]},{"Name":"S","Operation":"subscription","SelectionSet":[{"Alias":"b","Name":"b"}]}]}',
  ],
  ['graphql.parse_query', '"{ a {} }"', 'undefined'],
  ['graphql.parse_query', '""', '{}'],
  ['graphql.parse_query', '"{ a }}"', 'undefined'],
  [
    'graphql.parse_query',
    String.raw`"{ a(x: \"\"\"x\n   y\n  z\"\"\") }"`,
    String.raw`{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Arguments":[{"Name":"x","Value":{"ExpectedTypeHasDefault":false,"Kind":4,"Raw":"x\n   y\n  z"}}],"Name":"a"}]}]}`,
  ],
  [
    'graphql.parse_query',
    String.raw`"{ a(x: \"\"\"\r\n  a\r\n    b\r\n\"\"\") }"`,
    String.raw`{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Arguments":[{"Name":"x","Value":{"ExpectedTypeHasDefault":false,"Kind":4,"Raw":"a\n  b"}}],"Name":"a"}]}]}`,
  ],
  ['graphql.parse_query', String.raw`"{ a(x: \"unterminated) }"`, 'undefined'],
  [
    'graphql.parse_query',
    String.raw`"{ a(x: \"😀\") }"`,
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Arguments":[{"Name":"x","Value":{"ExpectedTypeHasDefault":false,"Kind":3,"Raw":"😀"}}],"Name":"a"}]}]}',
  ],
  ['graphql.parse_query', '"{ a(x: 1.) }"', 'undefined'],
  ['graphql.parse_query', '"{ a(x: 1a) }"', 'undefined'],
  [
    'graphql.parse_query',
    '"{ a: b }"',
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Name":"b"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"{ true null query fragment }"',
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"true","Name":"true"},{"Alias":"null","Name":"null"},{"Alias":"query","Name":"query"},{"Alias":"fragment","Name":"fragment"}]}]}',
  ],
  ['graphql.parse_query', '"{ a }"', 'undefined'],
  [
    'graphql.parse_query',
    '"query Q @x { a }"',
    '{"Operations":[{"Directives":[{"Location":"","Name":"x"}],"Name":"Q","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"query ($v: Int = [1]) { a }"',
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}],"VariableDefinitions":[{"DefaultValue":{"Children":[{"Name":"","Value":{"ExpectedTypeHasDefault":false,"Kind":1,"Raw":"1"}}],"ExpectedTypeHasDefault":false,"Kind":8,"Raw":""},"Type":{"NamedType":"Int","NonNull":false},"Used":false,"Variable":"v"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"query Q { a } query R { b }"',
    '{"Operations":[{"Name":"Q","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}]},{"Name":"R","Operation":"query","SelectionSet":[{"Alias":"b","Name":"b"}]}]}',
  ],
  [
    'graphql.parse_query',
    '"query Q($a: [[Int!]!]!) { a }"',
    '{"Operations":[{"Name":"Q","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}],"VariableDefinitions":[{"Type":{"Elem":{"Elem":{"NamedType":"Int","NonNull":true},"NamedType":"","NonNull":true},"NamedType":"","NonNull":true},"Used":false,"Variable":"a"}]}]}',
  ],
  ['graphql.parse_query', '"type Q { a: Int }"', 'undefined'],
  ['graphql.parse_query', '"{ a ! }"', 'undefined'],
  ['graphql.parse_query', '"{ ...on T }"', 'undefined'],
  [
    'graphql.parse_query',
    '"{ _a1: _b2 }"',
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"_a1","Name":"_b2"}]}]}',
  ],
  ['graphql.parse_query', '"{ a(x:) }"', 'undefined'],
  [
    'graphql.parse_query',
    '"query query { query }"',
    '{"Operations":[{"Name":"query","Operation":"query","SelectionSet":[{"Alias":"query","Name":"query"}]}]}',
  ],
  [
    'graphql.parse_query',
    String.raw`"{ a #c\r\n b }"`,
    '{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"},{"Alias":"b","Comment":{"List":[{"Value":"#c"}]},"Name":"b"}]}]}',
  ],
  ['graphql.parse_query', String.raw`"{ a(x: \"a\nb\") }"`, 'undefined'],
  ['graphql.parse_query', '{}', 'undefined'],
  [
    'graphql.parse_schema',
    '"type Query { a: Int }"',
    '{"Definitions":[{"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}}],"Kind":"OBJECT","Name":"Query"}]}',
  ],
  [
    'graphql.parse_schema',
    String.raw`"\"\" type Q { a: Int }"`,
    '{"Definitions":[{"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}}],"Kind":"OBJECT","Name":"Q"}]}',
  ],
  [
    'graphql.parse_schema',
    '"extend schema @x"',
    '{"SchemaExtension":[{"Description":"","Directives":[{"Location":"","Name":"x"}]}]}',
  ],
  [
    'graphql.parse_schema',
    String.raw`"\"\" extend type Q { a: Int }"`,
    '{"Extensions":[{"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}}],"Kind":"OBJECT","Name":"Q"}]}',
  ],
  ['graphql.parse_schema', '"extend scalar S"', 'undefined'],
  ['graphql.parse_schema', '"extend interface I implements J @d"', 'undefined'],
  ['graphql.parse_schema', '"type Q implements { a: Int }"', 'undefined'],
  [
    'graphql.parse_schema',
    '"union U"',
    '{"Definitions":[{"BuiltIn":false,"Description":"","Kind":"UNION","Name":"U"}]}',
  ],
  [
    'graphql.parse_schema',
    String.raw`"enum E { \"x\" A @d # c\n B }"`,
    '{"Definitions":[{"BuiltIn":false,"Description":"","EnumValues":[{"Description":"x","Directives":[{"Location":"","Name":"d"}],"Name":"A"},{"AfterDescriptionComment":{"List":[{"Value":"# c"}]},"Description":"","Name":"B"}],"Kind":"ENUM","Name":"E"}]}',
  ],
  ['graphql.parse_schema', '"extend enum E"', 'undefined'],
  [
    'graphql.parse_schema',
    '"extend input I @d(x: $v)"',
    '{"Extensions":[{"BuiltIn":false,"Description":"","Directives":[{"Arguments":[{"Name":"x","Value":{"ExpectedTypeHasDefault":false,"Kind":0,"Raw":"v"}}],"Location":"","Name":"d"}],"Kind":"INPUT_OBJECT","Name":"I"}]}',
  ],
  [
    'graphql.parse_schema',
    '"directive @d on FIELD"',
    '{"Directives":[{"Description":"","IsRepeatable":false,"Locations":["FIELD"],"Name":"d"}]}',
  ],
  [
    'graphql.parse_schema',
    String.raw`"# c\ndirective @d on FIELD"`,
    '{"Directives":[{"AfterDescriptionComment":{"List":[{"Value":"# c"}]},"Description":"","IsRepeatable":false,"Locations":["FIELD"],"Name":"d"}]}',
  ],
  ['graphql.parse_schema', '"extend foo"', 'undefined'],
  ['graphql.schema_is_valid', '"extend union U"', 'false'],
  ['graphql.schema_is_valid', String.raw`"enum E { \"x\" A @d # c\n B }"`, 'false'],
  ['graphql.schema_is_valid', '"enum E {}"', 'false'],
  ['graphql.schema_is_valid', '"extend enum E { C }"', 'true'],
  ['graphql.schema_is_valid', '"input I { a: Int = 1 @d }"', 'false'],
  ['graphql.schema_is_valid', '"extend input I { b: Int }"', 'true'],
  ['graphql.schema_is_valid', '"extend input I @d(x: $v)"', 'false'],
  ['graphql.schema_is_valid', '"type Q { a(): Int }"', 'false'],
  ['graphql.schema_is_valid', '"type Q { a: [Int }"', 'false'],
  ['graphql.schema_is_valid', '"directive @d(a: Int = 1) repeatable on | FIELD | QUERY"', 'true'],
  ['graphql.schema_is_valid', '"directive @d"', 'false'],
  ['graphql.schema_is_valid', String.raw`"# c\ndirective @d on FIELD"`, 'true'],
  ['graphql.schema_is_valid', '"{ a }"', 'false'],
  ['graphql.schema_is_valid', '"# c"', 'true'],
  ['graphql.schema_is_valid', '"foo"', 'false'],
  ['graphql.schema_is_valid', '"type Q { a(b: Int = $v): Int }"', 'false'],
  ['graphql.schema_is_valid', '"type Q { a: Int = 1 }"', 'false'],
  ['graphql.schema_is_valid', '"type Q { __a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"type Query { a: A }"', 'false'],
  ['graphql.schema_is_valid', '"union U type Query { a: U }"', 'true'],
  ['graphql.schema_is_valid', '"union U = Query | Query type Query { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"type Query implements I { a: Int } interface I { a: Int b: Int }"', 'false'],
  ['graphql.schema_is_valid', '"type Query implements I & I { a: Int } interface I { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"interface I implements I { a: Int } type Query { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"input I { a: I } type Query { a(i: I): Int }"', 'true'],
  ['graphql.schema_is_valid', '"input I { a: Query } type Query { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"scalar String type Query { a: String }"', 'false'],
  ['graphql.schema_is_valid', '"directive @include(if: Boolean!) on FIELD type Query { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"directive @d(a: Int @d) on ARGUMENT_DEFINITION type Query { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"directive @d on FIELD type Query @d { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"directive @d repeatable on OBJECT type Query @d @d { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"directive @d(a: Int!) on OBJECT type Query @d(a: null) { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"directive @d(a: Int!) on OBJECT type Query @d(b: 1) { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"extend type Query { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"extend type Query { a: Int } extend type Query { b: Int }"', 'true'],
  ['graphql.schema_is_valid', '"schema { query: Q } schema { query: Q } type Q { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"schema { query: Nope } type Q { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"schema { query: I } input I { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"schema @nope { query: Q } type Q { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"extend schema { query: Query } type Query { a: Int }"', 'true'],
  ['graphql.schema_is_valid', '"enum E { A @deprecated } type Query { a: E }"', 'true'],
  ['graphql.schema_is_valid', '"type Query { a(b: Int! @deprecated): Int }"', 'true'],
  ['graphql.schema_is_valid', '"type Query { a(__b: Int): Int }"', 'false'],
  ['graphql.schema_is_valid', '"input I @oneOf { a: Int! } type Query { a(i: I): Int }"', 'true'],
  ['graphql.schema_is_valid', String.raw`"input I { a: Int = \"x\" } type Query { a: Int }"`, 'true'],
  ['graphql.schema_is_valid', '"interface I { a(x: Int): Int } type Query implements I { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"interface I { a: Int } type Query implements I { a(x: Int! = 1): Int }"', 'true'],
  ['graphql.schema_is_valid', '"interface I { a: [Int] } type Query implements I { a: Int }"', 'false'],
  [
    'graphql.schema_is_valid',
    '"interface J { a: Int } interface I implements J { a: Int } type Query implements I { a: Int }"',
    'false',
  ],
  ['graphql.schema_is_valid', '"directive @__d on FIELD type Query { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"scalar D @specifiedBy type Query { a: D }"', 'false'],
  ['graphql.schema_is_valid', '"type Mutation { m: Int }"', 'true'],
  ['graphql.schema_is_valid', '"directive @d(a: Query) on FIELD type Query { a: Int }"', 'false'],
  ['graphql.schema_is_valid', '"input A { b: B! } input B { a: A! } type Query { a: Int }"', 'false'],
  ['graphql.schema_is_valid', 'null', 'false'],
  ['graphql.schema_is_valid', '[]', 'false'],
  [
    'graphql.parse',
    String.raw`"{a}", "# c\ntype Query { a: Int q: Query }"`,
    '[{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}]}]},{"Definitions":[{"AfterDescriptionComment":{"List":[{"Value":"# c"}]},"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}},{"Description":"","Name":"q","Type":{"NamedType":"Query","NonNull":false}}],"Kind":"OBJECT","Name":"Query"}]}]',
  ],
  [
    'graphql.parse_and_verify',
    '"{a}", "type Query { a: Int q: Query }"',
    '[true,{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"a","Name":"a"}]}]},{"Definitions":[{"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}},{"Description":"","Name":"q","Type":{"NamedType":"Query","NonNull":false}}],"Kind":"OBJECT","Name":"Query"}]}]',
  ],
  ['graphql.parse', String.raw`"{a{b}}", "# c\ntype Query { a: Int q: Query }"`, 'undefined'],
  ['graphql.parse_and_verify', '"{a{b}}", "type Query { a: Int q: Query }"', '[false,{},{}]'],
  ['graphql.parse', String.raw`"{a{b}}", "# c\ntype Query { a: Int q: Query }"`, 'undefined'],
  ['graphql.parse_and_verify', '"{a{b}}", "type Query { a: Int q: Query }"', '[false,{},{}]'],
  ['graphql.parse', String.raw`"{q}", "# c\ntype Query { a: Int q: Query }"`, 'undefined'],
  ['graphql.parse_and_verify', '"{q}", "type Query { a: Int q: Query }"', '[false,{},{}]'],
  [
    'graphql.parse',
    String.raw`"{q{a}}", "# c\ntype Query { a: Int q: Query }"`,
    '[{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"q","Name":"q","SelectionSet":[{"Alias":"a","Name":"a"}]}]}]},{"Definitions":[{"AfterDescriptionComment":{"List":[{"Value":"# c"}]},"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}},{"Description":"","Name":"q","Type":{"NamedType":"Query","NonNull":false}}],"Kind":"OBJECT","Name":"Query"}]}]',
  ],
  [
    'graphql.parse_and_verify',
    '"{q{a}}", "type Query { a: Int q: Query }"',
    '[true,{"Operations":[{"Name":"","Operation":"query","SelectionSet":[{"Alias":"q","Name":"q","SelectionSet":[{"Alias":"a","Name":"a"}]}]}]},{"Definitions":[{"BuiltIn":false,"Description":"","Fields":[{"Description":"","Name":"a","Type":{"NamedType":"Int","NonNull":false}},{"Description":"","Name":"q","Type":{"NamedType":"Query","NonNull":false}}],"Kind":"OBJECT","Name":"Query"}]}]',
  ],
];

describe('GraphQL built-ins', () => {
  it.each(cases)('%s(%s) is %s', (name, args, result) => {
    expect(call(name, args)).toBe(result);
  });

  const schema = `
    type Query { a: Int b(x: Int, y: [Int!], e: E, i: I, r: Int!, f: Float, s: String, id: ID, bo: Boolean, c: C): Int q: Query l: [Query] n: N u: U str: String req(x: Int!): Int d(x: Int! = 1): Int ob(o: O): Int }
    enum E { A B }
    input I { k: Int! l: [Int] = [1] m: I }
    input O @oneOf { a: Int b: Int }
    interface N { id: ID }
    type T implements N { id: ID t: Int }
    type V { v: Int } 
    union U = T | V 
    scalar C type Subscription { s: Int s2: Int } 
    directive @dir(a: Int) on FIELD 
    directive @rep repeatable on FIELD 
    directive @frag on FRAGMENT_DEFINITION | VARIABLE_DEFINITION | QUERY
  `;

  it.each([
    ['"{a}"', true],
    ['"{a{b}}"', false],
    ['"{q{a}}"', true],
    ['"{l{a}}"', true],
    ['"subscription{s}"', true],
    ['"subscription{s ...F} fragment F on Subscription{s2}"', false],
    ['"query A{a} query A{a}"', false],
    ['"query A{a} query B{a}"', true],
    ['"{...F} fragment F on Query{a}"', true],
    ['"{...F} fragment F on Query{...F}"', false],
    ['"{...F} fragment F on Nope{a}"', false],
    ['"{...F} fragment F on T{id}"', false],
    ['"{n{t}}"', false],
    ['"{u{__typename}}"', true],
    ['"{u{...on T{id}...on V{v}}}"', true],
    ['"{__typename}"', true],
    [String.raw`"{__type(name:\"T\"){name}}"`, true],
    ['"{b(x:1)}"', false],
    ['"{b(r:1,z:1)}"', false],
    [String.raw`"{b(r:1,x:\"s\")}"`, false],
    ['"{b(r:1,x:2147483648)}"', true],
    [String.raw`"{b(r:1,f:\"1\")}"`, false],
    ['"{b(r:1,id:1)}"', true],
    [String.raw`"{b(r:1,id:\"x\")}"`, true],
    ['"{b(r:1,bo:true)}"', true],
    ['"{b(r:1,e:C)}"', false],
    ['"{b(r:1,c:{x:1})}"', true],
    ['"{b(r:1,y:1)}"', true],
    ['"{b(r:1,y:[1])}"', true],
    ['"{b(r:1,i:{k:1})}"', true],
    ['"{b(r:1,i:{k:1,k:1})}"', false],
    ['"{b(r:1,i:1)}"', false],
    ['"{req}"', false],
    ['"{d(x:null)}"', false],
    ['"query($v:Int){b(r:$v)}"', false],
    ['"query($v:Int!){b(r:$v)}"', true],
    ['"query($v:Int){a}"', false],
    ['"query($v:Int,$v:Int){b(r:1,x:$v)}"', false],
    ['"query($v:Nope){b(r:1,x:$v)}"', false],
    ['"query($v:Int!=null){b(r:1,x:$v)}"', false],
    ['"query($v:Int){b(r:1,y:[$v])}"', false],
    ['"query($v:[Int]){b(r:1,y:$v)}"', false],
    ['"{a@include(if:true)}"', true],
    ['"{a@include(if:1)}"', false],
    ['"{a@dir}"', true],
    ['"{a@rep@rep}"', true],
    ['"query@frag{a}"', true],
    ['"{...F} fragment F on Query@frag{a}"', true],
    ['"{a:a a:a}"', true],
    ['"{x:b(r:1) y:b(r:2)}"', true],
    ['"{q{x:a} q{x:str}}"', false],
    ['"{u{...on T{x:id}...on V{x:v}}}"', false],
    ['"{...{a}}"', true],
    ['"{...on Nope{a}}"', false],
    ['"{ob(o:{a:1})}"', true],
    ['"{ob(o:{})}"', false],
    ['"query($v:Int){ob(o:{a:$v})}"', false],
    [String.raw`"{... @defer(label:\"x\"){a}}"`, true],
    ['"query Q($v:Int){...F} fragment F on Query{b(r:1,x:$v)}"', true],
    ['"{__schema{types{fields{type{fields{type{fields{type{name}}}}}}}}}"', false],
    ['"query($v:Boolean){a @include(if:$v)}"', false],
    [String.raw`"{b(r:1, x: 1) @dir(a: \"x\")}"`, false],
    ['"{str{x}}"', false],
    ['"{...F ...G} fragment F on Query{...G} fragment G on Query{...F}"', false],
    ['"subscription{__typename}"', false],
  ] as const)('%s fits the schema: %s', (query, isValid) => {
    expect(call('graphql.is_valid', `${query}, ${JSON.stringify(schema)}`)).toBe(String(isValid));
  });

  it('takes the trees that it gave', () => {
    const query = JSON.stringify('query Q($v: Int = 1) { x: b(r: 1, x: $v) @dir(a: 2) q { a } }');
    const trees = call('graphql.parse', `${query}, ${JSON.stringify(schema)}`);
    expect(trees).not.toBe('undefined');
    expect(call('graphql.parse', trees.slice(1, -1))).toBe(trees);
  });

  it.each([
    ['nested too deep', `${'{q'.repeat(1000)}{a}${'}'.repeat(1000)}`],
    ['too long', `{${'a '.repeat(200_000)}}`],
    ['full of fields that overlap', `{${'a '.repeat(4000)}}`],
  ])('fails the decision over a query that is %s', (_, query) => {
    const args = `${JSON.stringify(query)}, ${JSON.stringify(schema)}`;
    expect(() => call('graphql.is_valid', args)).toThrow(BuiltinHalt);
  });
});
