import fc from 'fast-check';
import { lp, u64 } from '../../../services/shared/contracts/bytes.ts';
import { canonicalJson } from '../../../services/shared/contracts/json.ts';
import { bytesToUuid, isUuidV7, newUuidV7, uuidToBytes } from '../../../services/shared/contracts/uuid.ts';
import { isTenant } from '../../../services/shared/contracts/tenant.ts';

describe('bytes', () => {
  it('put a length of four big-endian bytes before a value', () => {
    expect(lp('é').toString('hex')).toBe('00000002c3a9');
    expect(lp(new Uint8Array()).toString('hex')).toBe('00000000');
    expect(u64(258n).toString('hex')).toBe('0000000000000102');
  });

  it('never give two sequences of values the same length-prefixed bytes', () => {
    const join = (values: readonly string[]): string => Buffer.concat(values.map((value) => lp(value))).toString('hex');
    fc.assert(
      fc.property(fc.array(fc.string()), fc.array(fc.string()), (a, b) => {
        expect(join(a) === join(b)).toBe(JSON.stringify(a) === JSON.stringify(b));
      }),
    );
  });
});

describe('UUIDv7', () => {
  it('holds the time, sorts by it, and is never given twice', () => {
    const ids = Array.from({ length: 5_000 }, (_, index) => newUuidV7(1_767_225_600_000 + index));
    expect(ids.every(isUuidV7)).toBe(true);
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(Array.from({ length: 5_000 }, () => newUuidV7(0))).size).toBe(5_000);
    expect(Number.parseInt((ids[1] ?? '').replaceAll('-', '').slice(0, 12), 16)).toBe(1_767_225_600_001);
  });

  it('survives the way through its 16 bytes', () => {
    const id = newUuidV7();
    expect(bytesToUuid(uuidToBytes(id))).toBe(id);
    expect(isUuidV7(id.toUpperCase())).toBe(false);
  });
});

describe('canonical JSON (RFC 8785)', () => {
  it('sorts members by UTF-16 code units and writes numbers as ECMAScript does', () => {
    expect(canonicalJson({ b: 1e21, a: [1.0, -0], '\u20ac': 'é', '\r': null })).toBe(
      '{"\\r":null,"a":[1,0],"b":1e+21,"€":"é"}',
    );
  });

  it.each([[Number.NaN], [Number.POSITIVE_INFINITY], ['\ud800'], [undefined]])('refuses %p', (value) => {
    expect(() => canonicalJson(value)).toThrow();
  });
});

describe('tenant names', () => {
  it.each(['a', '0', 'acme-2', 'a'.repeat(63)])('may be %s', (name) => expect(isTenant(name)).toBe(true));
  it.each(['', '-a', 'A', 'a_b', 'a/b', 'a'.repeat(64), 'a\n', 1, null])('may not be %p', (name) =>
    expect(isTenant(name)).toBe(false),
  );
});
