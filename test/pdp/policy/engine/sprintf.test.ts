import fc from 'fast-check';
import { BuiltinError, BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { sprintfBuiltins } from '../../../../services/pdp/policy/engine/sprintf.ts';
import { parseValue } from '../../../../services/pdp/policy/engine/value-text.ts';

const context = { nowNs: 0n, randomBytes: (length: number) => new Uint8Array(length), spend: () => undefined };
const sprintf = (format: string, args: string) =>
  sprintfBuiltins['sprintf']!(context, parseValue(JSON.stringify(format)), parseValue(args));

describe('sprintf', () => {
  // What OPA 1.22.2 answers.
  it.each([
    ['%d %s', '[1, "a"]', '1 a'],
    ['%v', '[123456789012345678901234567890]', '123456789012345678901234567890'],
    ['%v', '[{"z": [1, 2.50], "a": {"y", "x"}}]', '{"a": {"x", "y"}, "z": [1, 2.50]}'],
    ['%v %v %v', '[set(), {}, null]', 'set() {} null'],
    ['%v', '[["a\\u200b\\t"]]', '["a\\u200b\\t"]'],
    ['%v %g', '[1e20, 1e21]', '1e+20 1e+21'],
    ['%v', '[1000000.0]', '1e+06'],
    ['%.0f %.0f %.0f', '[0.5, 1.5, 2.5]', '0 2 2'],
    ['%.1f', '[0.25]', '0.2'],
    ['%.25f', '[0.1]', '0.1000000000000000055511151'],
    ['%e', '[5e-324]', '4.940656e-324'],
    ['%x', '[3.14]', '0x1.91eb851eb851fp+01'],
    ['%b', '[1.0]', '4503599627370496p-52'],
    ['%#g', '[1.0]', '1.00000'],
    ['%d', '[1.0]', '%!d(float64=1)'],
    ['%s', '[1]', '%!s(int64=1)'],
    ['%s', '[9223372036854775808]', '9223372036854775808'],
    ['%c', '[9223372036854775808]', '%!c(big.Int=9223372036854775808)'],
    ['%v', '[1e400]', '1e400'],
    ['%d', '[true]', '%!d(string=true)'],
    ['% x|%#X', '["aé", "aé"]', '61 c3 a9|0X61C3A9'],
    ['%q %+q %#q', '["é\\n", "é\\n", "é"]', '"é\\n" "\\u00e9\\n" `é`'],
    ['%q %c %U %#U', '[128512, 128512, 128512, 128512]', "'😀' 😀 U+1F600 U+1F600 '😀'"],
    ['%O %#o %#b %#x', '[8, 8, 8, 8]', '0o10 010 0b1000 0x8'],
    ['%+d|% d|%05d|%-5d|', '[1, 1, -1, 1]', '+1| 1|-0001|1    |'],
    ['%5.1s|%-5s|', '["😀é", "😀"]', '    😀|😀    |'],
    ['%*d|%.*f', '[4, 1, 2, 3.14159]', '   1|3.14'],
    ['%[2]d %[1]d', '[1, 2]', '2 1'],
    ['%[3]d', '[1]', '%!d(BADINDEX)'],
    ['%d %d', '[1]', '1 %!d(MISSING)'],
    ['%d', '[1, "x", 2.5]', '1%!(EXTRA string=x, float64=2.5)'],
    ['%z%', '[1]', '%!z(int64=1)%!(NOVERB)'],
    ['%T %T %T', '[1, 9223372036854775808, null]', 'int64 *big.Int string'],
    ['%*d', '["a", 1]', '%!(BADWIDTH)1'],
    ['100%%', '[]', '100%'],
  ])('formats %j with %s as Go does', (format, args, expected) => {
    expect(sprintf(format, args)).toBe(expected);
  });

  it.each([
    [1, '[]'],
    ['%d', '{1}'],
    ['%d', '1'],
  ])('has no value for %j, %s', (format, args) => {
    expect(() => sprintfBuiltins['sprintf']!(context, format, parseValue(args))).toThrow(BuiltinError);
  });

  it('fails the evaluation rather than build an endless text', () => {
    expect(() => sprintf('%900000d'.repeat(20), `[${Array(20).fill(1).join()}]`)).toThrow(BuiltinHalt);
    expect(() => sprintf('%d', `[${'9'.repeat(200_000)}]`)).toThrow(BuiltinHalt);
  });

  it('prints every integer whole', () => {
    fc.assert(
      fc.property(fc.bigInt(), (n) => {
        expect(sprintf('%d|%x', `[${n}, ${n}]`)).toBe(`${n}|${n.toString(16)}`);
      }),
    );
  });

  it('prints doubles so that the same double is read again', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) => {
        const digits = x.toExponential();
        for (const verb of ['%v', '%.17g', '%.20e']) expect(Number(sprintf(verb, `[${digits}]`))).toBe(Number(digits));
      }),
    );
  });
});
