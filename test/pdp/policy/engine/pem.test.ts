import fc from 'fast-check';
import { BuiltinError } from '../../../../services/pdp/policy/engine/builtin.ts';
import { decodeBase64, nextPemBlock } from '../../../../services/pdp/policy/engine/pem.ts';

const A = '-----BEGIN A-----\nQUJD\n-----END A-----\n';

describe('base64', () => {
  test.each([
    ['', 'standard', true, ''],
    ['QUI=', 'standard', true, 'AB'],
    ['QU\nJD\r\n', 'standard', true, 'ABC'],
    ['QUI', 'standard', false, 'AB'],
    ['QUJ=', 'standard', true, 'AB'],
    ['-_8', 'url', false, '\u00fb\u00ff'],
    ['QUI', 'standard', true, undefined],
    ['QUI=', 'standard', false, undefined],
    ['Q===', 'standard', true, undefined],
    ['Q=I=', 'standard', true, undefined],
    ['Q', 'standard', false, undefined],
    ['-_8=', 'standard', true, undefined],
    ['+/8=', 'url', true, undefined],
    ['QU I', 'standard', false, undefined],
  ] as const)('%j (%s, padded: %s) gives %j', (text, alphabet, padded, expected) => {
    if (expected === undefined) expect(() => decodeBase64(text, alphabet, padded)).toThrow(BuiltinError);
    else expect(decodeBase64(text, alphabet, padded).toString('latin1')).toBe(expected);
  });
});

describe('a PEM text', () => {
  test.each([
    ['a block', A, 'A', 'ABC', ''],
    ['a block after other text', `x\n${A}y`, 'A', 'ABC', 'y'],
    ['the second of two beginnings', `-----BEGIN B-----\n${A}`, 'A', 'ABC', ''],
    ['a block with headers', A.replace('QUJD', 'K: v\nL: w\n\nQUJD'), 'A', 'ABC', ''],
    ['a block with lines of Windows', A.replaceAll('\n', '\r\n'), 'A', 'ABC', ''],
    ['an empty block', '-----BEGIN A-----\n-----END A-----', 'A', '', ''],
    ['the block after one whose ends differ', `-----BEGIN A-----\nQUJD\n-----END B-----\n${A}`, 'A', 'ABC', ''],
    ['the block after one that is no base64', `${A.replace('Q', '!')}${A}x`, 'A', 'ABC', 'x'],
  ])('holds %s', (_, text, type, bytes, rest) => {
    const found = nextPemBlock(text);
    expect(found?.block.type).toBe(type);
    expect(found?.block.bytes.toString()).toBe(bytes);
    expect(found?.rest).toBe(rest);
  });

  test.each([
    ['nothing', ''],
    ['a beginning alone', '-----BEGIN A-----\nQUJD\n'],
    ['a beginning in the middle of a line', `x${A}`],
    ['a block on one line', A.replaceAll('\n', '')],
    ['an end that reads like a header', `-----BEGIN A-----\n-----END A: x\n\n${A}`],
  ])('with %s holds no block', (_, text) => {
    expect(nextPemBlock(text)).toBeUndefined();
  });

  test('gives back every sequence of bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const lines = Buffer.from(bytes).toString('base64').replaceAll(/.{64}/g, '$&\n');
        const found = nextPemBlock(`-----BEGIN X-----\n${lines}\n-----END X-----\n`);
        expect(found?.block.bytes).toEqual(Buffer.from(bytes));
      }),
    );
  });
});
