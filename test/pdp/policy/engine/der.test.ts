import fc from 'fast-check';
import { BuiltinError } from '../../../../services/pdp/policy/engine/builtin.ts';
import { bitAt, Der, rightAlign, Tag } from '../../../../services/pdp/policy/engine/der.ts';

const der = (hex: string): Der => new Der(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

describe('DER', () => {
  test.each([
    ['02 01 00', 0n],
    ['02 01 7f', 127n],
    ['02 02 00 80', 128n],
    ['02 01 80', -128n],
    ['02 09 00 ff ff ff ff ff ff ff ff', 18446744073709551615n],
  ])('%s is the integer %s', (hex, value) => {
    expect(der(hex).integer()).toBe(value);
  });

  test.each([
    ['06 03 55 1d 0f', [2, 5, 29, 15]],
    ['06 03 88 37 03', [2, 999, 3]],
    ['06 01 27', [0, 39]],
  ])('%s is the object identifier %j', (hex, arcs) => {
    expect(der(hex).oid()).toEqual(arcs);
  });

  test.each([
    ['an integer with a needless zero', '02 02 00 7f', (x: Der) => x.integer()],
    ['an integer without bytes', '02 00', (x: Der) => x.integer()],
    ['an integer of 65 bits', '02 09 00 ff ff ff ff ff ff ff ff', (x: Der) => x.int64()],
    ['an integer beyond use', `02 82 40 01 ${'01'.repeat(16_385)}`, (x: Der) => x.integer()],
    ['a length that is longer than needed', '04 81 01 00', (x: Der) => x.element()],
    ['a length with a leading zero', `04 82 00 80 ${'00'.repeat(128)}`, (x: Der) => x.element()],
    ['a length that is not given', '30 80 00 00', (x: Der) => x.element()],
    ['a length beyond the end', '04 02 00', (x: Der) => x.element()],
    ['a tag of many octets', '1f 81 01 00', (x: Der) => x.element()],
    ['another tag', '04 00', (x: Der) => x.enter(Tag.sequence)],
    ['a boolean of another byte', '01 01 01', (x: Der) => x.boolean()],
    ['an arc with a leading zero', '06 02 80 01', (x: Der) => x.oid()],
    ['an arc that does not end', '06 02 55 81', (x: Der) => x.oid()],
    ['an arc beyond 31 bits', '06 06 55 88 80 80 80 00', (x: Der) => x.oid()],
    ['padding that is not zero', '03 02 01 01', (x: Der) => x.bitString()],
  ])('%s is refused', (_, hex, read) => {
    expect(() => read(der(hex))).toThrow(BuiltinError);
  });

  test('bits are counted from the front, and padding is none', () => {
    const bits = der('03 02 05 a0').bitString();
    expect([0, 1, 2, 3, 100].map((index) => bitAt(bits, index))).toEqual([true, false, true, false, false]);
    expect(rightAlign(bits)).toEqual(Buffer.from([0b101]));
  });

  test('elements give back their content, and the rest', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70_000 }), (content) => {
        const { length } = content;
        const size = Buffer.from(
          length.toString(16).padStart(length < 0x100 ? 2 : length < 0x10000 ? 4 : 6, '0'),
          'hex',
        );
        const head = length < 0x80 ? [4, length] : [4, 0x80 + size.length, ...size];
        const reader = new Der(Buffer.concat([Buffer.from(head), content, Buffer.from([5, 0])]));
        expect(reader.read(Tag.octetString).content.equals(content)).toBe(true);
        expect(reader.element().tag).toBe(5);
        expect(reader.empty).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});
