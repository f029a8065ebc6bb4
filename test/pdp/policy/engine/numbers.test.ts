import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { numberBuiltins } from '../../../../services/pdp/policy/engine/numbers.ts';
import { answerOf } from './call-builtin.ts';

const answer = (name: string, ...args: string[]) => answerOf(numberBuiltins, name, args);

describe('number built-ins', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['units.parse', ['"10Ki"'], '10240'],
    ['units.parse', ['"1K"'], '1000'],
    ['units.parse', ['"1M"'], '1000000'],
    ['units.parse', ['"1m"'], '0.0010000000'],
    ['units.parse', ['"1000m"'], '1.0000000000'],
    ['units.parse', ['"1MI"'], '1048576'],
    ['units.parse', ['"0.00000000005"'], '0.0000000001'],
    ['units.parse', ['"-0.00000000005"'], '-0.0000000001'],
    ['units.parse', ['"-1e-50"'], '-0.0000000000'],
    ['units.parse', ['"1e3Ei"'], '1152921504606846976000'],
    ['units.parse', ['"\\"1\\""'], '1'],
    ['units.parse', ['"1 k"'], 'undefined'],
    ['units.parse', ['"1kb"'], 'undefined'],
    ['units.parse', ['"k"'], 'undefined'],
    ['units.parse', ['"1e0000001"'], 'undefined'],
    ['units.parse_bytes', ['"1.5KB"'], '1500'],
    ['units.parse_bytes', ['"1MiB"'], '1048576'],
    ['units.parse_bytes', ['"1m"'], '1000000'],
    ['units.parse_bytes', ['"-1.5"'], '-1'],
    ['units.parse_bytes', ['"12345678901234567890123"'], '12345678901234567889920'],
    ['units.parse_bytes', ['"1b"'], 'undefined'],
    ['numbers.range_step', ['1', '10', '4'], '[1, 5, 9]'],
    ['numbers.range_step', ['1.0', '-1e1', '5'], '[1, -4, -9]'],
    [
      'numbers.range_step',
      ['9223372036854775807', '9223372036854775810', '2'],
      '[9223372036854775807, 9223372036854775809]',
    ],
    ['numbers.range_step', ['1', '2', '0'], 'undefined'],
    ['numbers.range_step', ['1', '2.5', '1'], 'undefined'],
    ['semver.compare', ['"1.2.3"', '"v1.2.3+b"'], '0'],
    ['semver.compare', ['"1.2.3-beta.2"', '"1.2.3-beta.11"'], '-1'],
    ['semver.compare', ['"1.2.3"', '"1.2.3-rc"'], '1'],
    ['semver.compare', ['"1.2.3-1"', '"1.2.3-a"'], '-1'],
    ['semver.compare', ['"1.2.3-a.b"', '"1.2.3-a"'], '1'],
    ['semver.compare', ['"1.2"', '"1.2.3"'], 'undefined'],
    ['semver.is_valid', ['"1.2.3-a-b.0+x"'], 'true'],
    ['semver.is_valid', ['"01.2.3"'], 'false'],
    ['semver.is_valid', ['"1.2.3-01"'], 'false'],
    ['semver.is_valid', ['"9223372036854775808.0.0"'], 'false'],
    ['semver.is_valid', ['1'], 'false'],
    ['rand.intn', ['"a"', '0'], '0'],
    ['rand.intn', ['"a"', '1.5'], 'undefined'],
    ['rand.intn', ['1', '1'], 'undefined'],
  ])('%s of %j is %s', (name, args, expected) => {
    expect(answer(name, ...args)).toBe(expected);
  });

  it('draws a number below the limit, whichever sign that has', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: (1n << 63n) - 1n }), fc.boolean(), (limit, isNegative) => {
        const drawn = BigInt(answer('rand.intn', '"seed"', `${isNegative ? '-' : ''}${limit}`));
        expect(drawn >= 0n && drawn < limit).toBe(true);
      }),
    );
  });

  it('fails the evaluation at a range or an exponent without end', () => {
    expect(() => answer('numbers.range_step', '0', '1000000', '1')).toThrow(BuiltinHalt);
    expect(() => answer('units.parse', '"1e999999"')).toThrow(BuiltinHalt);
    expect(() => answer('units.parse_bytes', '"1e999999"')).toThrow(BuiltinHalt);
    expect(() => answer('numbers.range_step', '1e99999', '1', '1')).toThrow(BuiltinHalt);
  });

  it('reads an amount too small to show as nothing', () => {
    expect(answer('units.parse', '"1e-999999"')).toBe('0.0000000000');
    expect(answer('units.parse_bytes', '"1e-999999"')).toBe('0');
  });
});
