import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { netBuiltins } from '../../../../services/pdp/policy/engine/net.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, ...args: string[]) => answerOf(netBuiltins, name, args);

describe('networks', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['net.cidr_is_valid', ['"10.0.0.1/08"'], 'true'],
    ['net.cidr_is_valid', ['"2001:db8::/32"'], 'true'],
    ['net.cidr_is_valid', ['"::ffff:1.2.3.4/96"'], 'true'],
    ['net.cidr_is_valid', ['"10.0.0.0/33"'], 'false'],
    ['net.cidr_is_valid', ['"01.2.3.4/8"'], 'false'],
    ['net.cidr_is_valid', ['"fe80::1%en0/64"'], 'false'],
    ['net.cidr_is_valid', ['"10.0.0.0"'], 'false'],
    ['net.cidr_is_valid', ['1'], 'false'],
    ['net.cidr_expand', ['"10.0.0.5/30"'], '{"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"}'],
    ['net.cidr_expand', ['"::ffff:10.0.0.0/127"'], '{"10.0.0.0", "10.0.0.1"}'],
    ['net.cidr_expand', ['"2001:db8::/127"'], '{"2001:db8::", "2001:db8::1"}'],
    ['net.cidr_expand', ['"255.255.255.255/32"'], '{"255.255.255.255"}'],
    ['net.cidr_expand', ['"10.0.0.0"'], 'undefined'],
    ['net.cidr_merge', ['["10.0.0.0/24", "10.0.1.0/24", "10.0.0.7/32"]'], '{"10.0.0.0/23"}'],
    ['net.cidr_merge', ['{"10.0.0.1/32", "10.0.0.2/32"}'], '{"10.0.0.1/32", "10.0.0.2/32"}'],
    ['net.cidr_merge', ['["10.0.0.1"]'], '{"10.0.0.1/8"}'],
    ['net.cidr_merge', ['["224.0.0.1"]'], '{"224.0.0.1/24"}'],
    ['net.cidr_merge', ['["::ffff:10.0.0.0/104"]'], '{"10.0.0.0/8"}'],
    ['net.cidr_merge', ['["::/32", "10.0.0.0/8"]'], '{"::/32"}'],
    ['net.cidr_merge', ['["0.0.0.0/0", "::fffe:ffff:ffff/128"]'], '{"0.0.0.0/0", "::fffe:ffff:ffff/128"}'],
    ['net.cidr_merge', ['["2001:db8::1"]'], 'undefined'],
    ['net.cidr_merge', ['[]'], 'set()'],
    ['net.cidr_merge', ['"10.0.0.0/8"'], 'undefined'],
    ['net.cidr_contains_matches', ['"10.0.0.0/8"', '["10.1.2.3", "11.0.0.0/8"]'], '{["10.0.0.0/8", 0]}'],
    ['net.cidr_contains_matches', ['{"x": "10.0.0.0/8"}', '{["10.0.0.0/9", 1]}'], '{["x", ["10.0.0.0/9", 1]]}'],
    ['net.cidr_contains_matches', ['"::/0"', '"10.0.0.1"'], 'set()'],
    ['net.cidr_contains_matches', ['"::/80"', '"::/80"'], '{["::/80", "::/80"]}'],
    ['net.cidr_contains_matches', ['["x"]', '[]'], 'set()'],
    ['net.cidr_contains_matches', ['[[]]', '[]'], 'undefined'],
    ['net.cidr_contains_matches', ['1', '["x"]'], 'set()'],
  ])('%s of %j is %s', (name, args, expected) => {
    expect(answer(name, ...args)).toBe(expected);
  });

  it('merges into networks that hold the same addresses', () => {
    const network = fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 32 }));
    fc.assert(
      fc.property(fc.array(network, { maxLength: 6 }), (networks) => {
        const written = networks.map(([last, prefix]) => `10.0.0.${last}/${prefix}`);
        const all = (cidrs: readonly string[]) =>
          new Set(cidrs.flatMap((cidr) => answer('net.cidr_expand', JSON.stringify(cidr)).match(/[\d.]+/g) ?? []));
        const merged = answer('net.cidr_merge', JSON.stringify(written)).match(/[\d./]{9,}/g) ?? [];
        expect(all(merged)).toEqual(all(written));
        expect(merged.length).toBeLessThanOrEqual(new Set(written).size);
      }),
    );
  });

  it('fails the evaluation rather than answer with millions of addresses', () => {
    expect(() => answer('net.cidr_expand', '"10.0.0.0/08"')).toThrow(BuiltinHalt);
    expect(() => answer('net.cidr_expand', '"::/0"')).toThrow(BuiltinHalt);
  });
});
