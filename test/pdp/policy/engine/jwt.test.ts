import { createHmac, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { BuiltinError } from '../../../../services/pdp/policy/engine/builtin.ts';
import { jwtBuiltins } from '../../../../services/pdp/policy/engine/jwt.ts';
import { call, context, testCases } from './recorded-cases.ts';

const jwt = (name: string, ...args: readonly unknown[]): unknown => {
  const result = call(jwtBuiltins, `io.jwt.${name}`, ...args.map((arg) => JSON.stringify(arg)));
  return result === undefined ? undefined : (JSON.parse(result) as unknown);
};

const part = (text: string): string => Buffer.from(text).toString('base64url');
const hmacToken = (header: string, payload: string): string => {
  const signed = `${part(header)}.${part(payload)}`;
  return `${signed}.${createHmac('sha256', 's').update(signed).digest('base64url')}`;
};
const UNVERIFIED = [false, {}, {}];
const NOW = Number(context.nowNs / 1_000_000_000n);

describe('JSON Web Tokens', () => {
  testCases(jwtBuiltins, './jwt-cases.json');

  test.each([
    ['RS256', 'rsa'],
    ['PS384', 'rsa'],
    ['ES256', 'P-256'],
    ['ES384', 'P-384'],
    ['ES512', 'P-521'],
    ['EdDSA', 'ed25519'],
  ])('a token signed with %s is verified with the public key, and not after a change', (alg, kind) => {
    const { privateKey, publicKey } =
      kind === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : kind === 'ed25519'
          ? generateKeyPairSync('ed25519')
          : generateKeyPairSync('ec', { namedCurve: kind });
    const token = jwt('encode_sign', { alg }, { n: 1 }, privateKey.export({ format: 'jwk' })) as string;
    const pem = publicKey.export({ type: 'spki', format: 'pem' });
    expect(jwt(`verify_${alg.toLowerCase()}`, token, pem)).toBe(true);
    expect(jwt('decode_verify', token, { cert: pem })).toEqual([true, { alg }, { n: 1 }]);
    const changed = token.replace(part('{"n":1}'), part('{"n":2}'));
    expect(jwt(`verify_${alg.toLowerCase()}`, changed, pem)).toBe(false);
    expect(jwt('decode_verify', changed, { cert: pem })).toEqual(UNVERIFIED);
  });

  test('a token without a signature is never verified', () => {
    const token = `${part('{"alg":"none"}')}.${part('{}')}.`;
    expect(jwt('decode_verify', token, { secret: 's' })).toEqual(UNVERIFIED);
    expect(jwt('verify_hs256', token, 's')).toBe(false);
  });

  test('a public key is no secret of an HMAC', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = publicKey.export({ type: 'spki', format: 'pem' });
    const signed = `${part('{"alg":"HS256"}')}.${part('{}')}`;
    const token = `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`;
    expect(jwt('decode_verify', token, { cert: pem })).toEqual(UNVERIFIED);
  });

  test('a token is valid from `nbf` on and until `exp`, by the time of the evaluation', () => {
    const at = (claims: string): unknown => jwt('decode_verify', hmacToken('{"alg":"HS256"}', claims), { secret: 's' });
    expect(at(`{"exp":${NOW}}`)).toEqual(UNVERIFIED);
    expect(at(`{"exp":${NOW + 1}}`)).toEqual([true, { alg: 'HS256' }, { exp: NOW + 1 }]);
    expect(at(`{"nbf":${NOW}}`)).toEqual([true, { alg: 'HS256' }, { nbf: NOW }]);
    expect(at(`{"nbf":${NOW + 1}}`)).toEqual(UNVERIFIED);
  });

  test('numbers of claims keep their text', () => {
    const token = hmacToken('{"alg":"HS256"}', '{"a":1.0,"b":12345678901234567890,"c":1e5}');
    expect(call(jwtBuiltins, 'io.jwt.decode', JSON.stringify(token))).toContain(
      '{"a":1.0,"b":12345678901234567890,"c":1e5}',
    );
  });

  test('a lone key is read from the front of a text, a set of keys is not', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const token = jwt('encode_sign', { alg: 'EdDSA' }, {}, privateKey.export({ format: 'jwk' }));
    const key = JSON.stringify({ ...publicKey.export({ format: 'jwk' }), note: '}"{' });
    expect(jwt('verify_eddsa', token, `${key} and more`)).toBe(true);
    expect(jwt('verify_eddsa', token, `more and ${key}`)).toBeUndefined();
    expect(jwt('verify_eddsa', token, `{"keys":[${key}]}`)).toBe(true);
    expect(jwt('verify_eddsa', token, `{"keys":[${key}]} and more`)).toBeUndefined();
  });

  test('an Ed25519 key is no secret of an HMAC', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    expect(jwt('encode_sign', { alg: 'HS256' }, {}, privateKey.export({ format: 'jwk' }))).toBeUndefined();
  });

  test('an error names nothing of a key', () => {
    const key = { kty: 'oct', k: 'c2VjcmV0*', alg: 'HS256' };
    expect(() => jwtBuiltins['io.jwt.encode_sign_raw']!(context, '{"alg":"HS256"}', '{}', JSON.stringify(key))).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('c2Vj') as string }) as Error,
    );
  });

  test('every payload that is signed is decoded again', () => {
    const secret = { kty: 'oct', k: part('secret') };
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ maxDepth: 3 })), (payload) => {
        // JavaScript's -0 is written as 0.
        const plain = JSON.parse(JSON.stringify(payload)) as unknown;
        const token = jwt('encode_sign', { alg: 'HS512' }, plain, secret) as string;
        expect(jwt('decode_verify', token, { secret: 'secret', time: 0, aud: '' })).toEqual([
          true,
          { alg: 'HS512' },
          plain,
        ]);
        expect((jwt('decode', token) as unknown[])[1]).toEqual(plain);
      }),
      { numRuns: 50 },
    );
  });

  test('texts of megabytes are refused at once', () => {
    const token = hmacToken('{"alg":"RS256"}', '{}');
    const started = performance.now();
    for (const unit of ['.', 'a', 'a.b.=', '-----BEGIN x-----\n-----END :\n', '{"keys":[', '{"', '\\"']) {
      const text = unit.repeat(5_000_000 / unit.length);
      expect(() => jwtBuiltins['io.jwt.decode']!(context, text)).toThrow(BuiltinError);
      expect(() => jwtBuiltins['io.jwt.verify_rs256']!(context, token, text)).toThrow(BuiltinError);
    }
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});
