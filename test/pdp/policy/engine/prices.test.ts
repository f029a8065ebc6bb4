import { generateKeyPairSync } from 'node:crypto';
import { OutOfFuel, type BuiltinContext } from '../../../../services/pdp/policy/engine/builtin.ts';
import { BUILTINS } from '../../../../services/pdp/policy/engine/builtins.ts';
import { priceOf } from '../../../../services/pdp/policy/engine/prices.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';
import type { Value } from '../../../../services/pdp/policy/engine/value.ts';

const BUDGET = 1_000_000;

/** What a call spends beyond its price, and whether that was more than the default budget. */
const spentOn = (name: string, ...args: readonly Value[]): { readonly spent: number; readonly ended: boolean } => {
  let spent = 0;
  const context: BuiltinContext = {
    nowNs: 0n,
    randomBytes: (length) => new Uint8Array(length),
    spend: (units) => {
      spent += units;
      if (spent > BUDGET) throw new OutOfFuel();
    },
  };
  try {
    BUILTINS[name]?.(context, ...args);
    return { spent, ended: false };
  } catch (error) {
    if (!(error instanceof OutOfFuel)) throw error;
    return { spent, ended: true };
  }
};

const spentBy = (name: string, ...args: readonly unknown[]): ReturnType<typeof spentOn> =>
  spentOn(name, ...args.map((arg) => parseValue(JSON.stringify(arg))));

const ladder = Object.fromEntries(
  Array.from({ length: 60 }, (_, at) => [`${at}`, at % 2 === 0 ? [`${at + 1}`, `${at + 2}`] : [`${at + 1}`]]),
);
const doubling = Array.from({ length: 30 }, (_, at) => ({ op: 'copy', from: '', path: `/x${at}` }));
/** A schema that is looked at twice by each of 29 that follow each other. */
const doubled = (leaf: object): object => ({
  definitions: Object.fromEntries(
    Array.from({ length: 30 }, (_, at) => [
      `d${at}`,
      at === 0 ? leaf : { allOf: [{ $ref: `#/definitions/d${at - 1}` }, { $ref: `#/definitions/d${at - 1}` }] },
    ]),
  ),
  $ref: '#/definitions/d29',
});

/** CPU that a call may take that the budget ends: honest work for it takes some 5 ms. */
const MOST_CPU_MS = 500;

const cpuMsOf = (work: () => void): number => {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
};

const LONG = 'x'.repeat(52_000);

describe('prices', () => {
  it('are asked for every built-in, and none is free', () => {
    for (const name of Object.keys(BUILTINS)) {
      const { call, byte } = priceOf(name);
      expect(call).toBeGreaterThanOrEqual(200);
      expect(byte).toBeGreaterThanOrEqual(name === 'time.now_ns' ? 0 : 1);
    }
  });

  it.each([
    ['sprintf', ['%999999d%999999d', [1, 2]]],
    ['sprintf', ['%.999999f%.999999f', [1.5, 2.5]]],
    [
      'strings.render_template',
      [
        '{{range .n}}{{range $.n}}{{range $.n}}x{{end}}{{end}}{{end}}',
        { n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20] },
      ],
    ],
    [
      'strings.render_template',
      [
        '{{$x := .t}}{{range .n}}{{$x = print $x $x}}{{end}}',
        { t: 'abcdefgh'.repeat(100), n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] },
      ],
    ],
    ['graph.reachable_paths', [ladder, ['0']]],
    ['net.cidr_expand', ['10.0.0.0/16']],
    [
      'net.cidr_contains_matches',
      [Array.from({ length: 100 }, (_, i) => `10.${i}.0.0/16`), Array.from({ length: 100 }, (_, i) => `10.${i}.0.1`)],
    ],
    ['numbers.range_step', [1, 1_000_000, 1]],
    ['regex.replace', ['a'.repeat(1_000), 'a', 'b'.repeat(2_000)]],
    ['regex.replace', ['a'.repeat(4_000), '(a{500}|[ab]{400})x', '']],
    ['regex.replace', ['a', '((a{10}){10}){10}b{1000}c{1000}', '']],
    ['regex.find_n', ['a', 'a'.repeat(20_000), -1]],
    ['regex.split', ['a', 'a'.repeat(20_000)]],
    ['regex.globs_match', ['.*a'.repeat(500), '.*b'.repeat(500)]],
    ['json.patch', [{ a: 1 }, doubling]],
    ['json.match_schema', [{}, doubled({ type: 'object' })]],
    ['json.match_schema', ['"' + 'a'.repeat(50_000) + '"', { pattern: '(a|b){40}x' }]],
    [
      'io.jwt.encode_sign',
      [{ alg: 'RS256' }, {}, generateKeyPairSync('rsa', { modulusLength: 4_096 }).privateKey.export({ format: 'jwk' })],
    ],
  ])('of %s grow with what it makes', (name, args) => {
    expect(spentBy(name, ...args).ended).toBe(true);
  });

  it('of a patch grow with the sets that each of its operations puts in order', () => {
    const set = (size: number): Value => parseValue(`{${Array.from({ length: size }, (_, i) => `[${i}]`).join()}}`);
    const operations = (count: number): Value =>
      parseValue(`[${Array.from({ length: count }, (_, i) => `{"op":"test","path":[[${i}]],"value":[${i}]}`).join()}]`);
    expect(spentOn('json.patch', set(300), operations(150)).ended).toBe(true);
    const [few, many] = [spentOn('json.patch', set(20), operations(4)), spentOn('json.patch', set(20), operations(8))];
    expect(few.spent).toBeGreaterThan(10_000);
    expect(many.spent).toBeGreaterThan(few.spent * 1.5);
  });

  it('of honest work are far below the budget', () => {
    const spent = [
      spentBy('regex.replace', 'the quick brown fox jumps over the lazy dog. '.repeat(20), '\\s+|[.,;]', '_'),
      spentBy('regex.split', '[,;]+ *', 'alice, bob; carol,dave, '.repeat(80)),
      spentBy('sprintf', '%s is not permitted on %s', ['alice', 'report']),
      spentBy('regex.replace', 'alice@example.com', '^([a-z]{1,63})@([a-z]{1,63}\\.)+[a-z]{2,8}$', '$1'),
      spentBy('net.cidr_contains_matches', ['10.0.0.0/8', '192.168.0.0/16'], '10.1.2.3'),
      spentBy('json.patch', { a: 1 }, [{ op: 'add', path: '/b', value: 2 }]),
      spentBy('numbers.range_step', 1, 100, 1),
    ];
    for (const each of spent) {
      expect(each.ended).toBe(false);
      expect(each.spent).toBeLessThan(BUDGET / 10);
    }
  });

  it.each<readonly [string, readonly unknown[]]>([
    ['regex.split', ['x*y|x', LONG]],
    ['regex.find_n', ['x*y|x', LONG, -1]],
    ['regex.replace', [LONG, 'x*y|x', '']],
    ['regex.split', ['x*?(?:y|x*z)|x', LONG]],
    ['regex.find_n', ['(x*y)?', LONG, -1]],
    ['regex.find_n', ['xx*z|(x)(w)?', LONG, -1]],
    ['regex.find_n', ['y.*z|x', LONG, -1]],
    ['regex.replace', [LONG, 'x', '$nothing'.repeat(6_000)]],
    ['regex.replace', [LONG, '(x)*', '$0'.repeat(25_000)]],
    [
      'json.match_schema',
      [Array.from({ length: 20 }, (_, at) => '[ab]{900}'.repeat(5) + at), { items: { format: 'regex' } }],
    ],
    ['units.parse', ['1e-199999']],
    ['units.parse_bytes', ['1e-199999']],
    ['units.parse', ['9'.repeat(90_000)]],
    ['regex.globs_match', ['a*.+'.repeat(240), '.*b+'.repeat(240)]],
    ['sprintf', ['%.17[1]e'.repeat(20_000), [1.2345e-300]]],
    ['sprintf', ['%.1[1]x'.repeat(20_000), [LONG]]],
    ['json.match_schema', [Array.from({ length: 300 }, (_, at) => at % 3), doubled({ uniqueItems: true })]],
    ['json.match_schema', [Array.from({ length: 300 }, (_, at) => at), doubled({ const: 1 })]],
    ['json.match_schema', [{}, doubled({ required: Array.from({ length: 60 }, (_, at) => `k${at}`) })]],
  ])('of %s are paid before the work (%#)', (name, args) => {
    const cpuMs = cpuMsOf(() => expect(spentBy(name, ...args).ended).toBe(true));
    expect(cpuMs).toBeLessThan(MOST_CPU_MS);
  });
});
