import { constants, createHmac, createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { parseValue, printValue } from '../../../services/pdp/policy/engine/value-text.ts';
import { RegoObject, type Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generator, Generators } from './generators.ts';
import type { KeyKind, Material } from './material.ts';
import type { Random } from './random.ts';
import { anyText, anyValue, jsonValue, maybeDamaged, number, object } from './values.ts';

const SECRET = 'a secret of thirty-two characters';
const HASHES = ['256', '384', '512'] as const;
const CURVES: Readonly<Record<string, KeyKind>> = { ES256: 'p256', ES384: 'p384', ES512: 'p521' };
const ALGORITHMS = [...['HS', 'RS', 'PS', 'ES'].flatMap((family) => HASHES.map((bits) => `${family}${bits}`)), 'EdDSA'];

const kindOf = (algorithm: string): KeyKind => CURVES[algorithm] ?? (algorithm === 'EdDSA' ? 'ed25519' : 'rsa');

const signed = (material: Material, algorithm: string, content: string): Buffer => {
  const hash = `sha${algorithm.slice(2)}`;
  if (algorithm.startsWith('HS')) return createHmac(hash, SECRET).update(content).digest();
  const key = material.private[kindOf(algorithm)];
  const bytes = Buffer.from(content);
  if (algorithm === 'EdDSA') return sign(null, bytes, key);
  if (algorithm.startsWith('ES')) return sign(hash, bytes, { key, dsaEncoding: 'ieee-p1363' });
  if (algorithm.startsWith('RS')) return sign(hash, bytes, key);
  return sign(hash, bytes, {
    key,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  });
};

const segment = (value: Value | string): string =>
  Buffer.from(typeof value === 'string' ? value : printValue(value)).toString('base64url');

const headerOf = (random: Random, algorithm: string): Value => {
  const header: Record<string, Value> = {
    alg: random.chance(0.95) ? algorithm : random.pick([...ALGORITHMS, 'none', '']),
  };
  if (random.chance(0.6)) header['typ'] = random.pick(['JWT', 'jwt', 'text/plain']);
  if (random.chance(0.35)) header['kid'] = random.pick(['one', 'two', '']);
  if (random.chance(0.1)) header['cty'] = random.pick(['JWT', 'x']);
  if (random.chance(0.06)) header['crit'] = ['exp'];
  return object(header);
};

/** Seconds around the probes' clock, which stands at 1.7e9. */
const SECONDS = [
  '1699999999',
  '1700000000',
  '1700000001',
  '1e9',
  '2e9',
  '1700000000.5',
  '0',
  '-1',
  '99999999999999999999',
].map(number);

const claims = (random: Random): Value => {
  const made: Record<string, Value> = { sub: anyText(random) };
  if (random.chance(0.4)) made['iss'] = random.pick<Value>(['edict', 'other', 1]);
  if (random.chance(0.4)) made['aud'] = random.pick<Value>(['a', ['a', 'b'], [], 'c', 1, ['a', 1]]);
  for (const name of ['exp', 'nbf'])
    if (random.chance(0.4)) made[name] = random.chance(0.9) ? random.pick(SECONDS) : anyValue(random, 1);
  if (random.chance(0.3)) made['extra'] = jsonValue(random, 2);
  return object(made);
};

const payload = (random: Random): Value | string =>
  random.chance(0.92)
    ? claims(random)
    : random.pick<Value | string>(['plain text', '[1]', '{"a":1,"a":2}', '{"a":1.0}', '{', '']);

const token = (random: Random, material: Material, algorithm: string): string => {
  const content = `${segment(headerOf(random, algorithm))}.${segment(payload(random))}`;
  const text = `${content}.${signed(material, algorithm, content).toString('base64url')}`;
  if (random.chance(0.04))
    return random.pick([content, `${text}.x`, `${text}=`, text.replaceAll('-', '+'), '', '..', 'a.b.c']);
  return maybeDamaged(random, text, 'abcXYZ019-_.=', 0.1);
};

const jwk = (random: Random, material: Material, kind: KeyKind, isPrivate: boolean): RegoObject => {
  const key = isPrivate ? createPrivateKey(material.private[kind]) : createPublicKey(material.public[kind]);
  const made = parseValue(JSON.stringify(key.export({ format: 'jwk' })));
  if (!(made instanceof RegoObject)) throw new TypeError('no JWK');
  const extra: (readonly [string, Value])[] = [];
  if (random.chance(0.4)) extra.push(['kid', random.pick(['one', 'two', ''])]);
  if (random.chance(0.3)) extra.push(['alg', random.pick([...ALGORITHMS, 'none'])]);
  if (random.chance(0.2)) extra.push(['use', random.pick(['sig', 'enc'])]);
  return RegoObject.of([...made.entries, ...extra]);
};

const verificationKey = (random: Random, material: Material, algorithm: string): string => {
  if (algorithm.startsWith('HS')) return random.chance(0.85) ? SECRET : anyText(random);
  const kind = random.chance(0.9) ? kindOf(algorithm) : random.pick<KeyKind>(['rsa', 'p256', 'ed25519']);
  const forms = [
    () => material.public[kind],
    () => material.certificates[kind],
    () => printValue(jwk(random, material, kind, false)),
    () =>
      printValue(
        object({ keys: random.many(0, 3, () => jwk(random, material, random.chance(0.7) ? kind : 'p384', false)) }),
      ),
    () => material.private[kind],
    () => material.legacy[kind] ?? '',
    () => anyText(random),
  ];
  const form = random.chance(0.85) ? forms[random.int(0, 3)] : random.pick(forms);
  return maybeDamaged(random, form?.() ?? '', 'abc019-=\n{}"', 0.06);
};

const verifies =
  (algorithm: string): Generator =>
  (random, material) => {
    const used = random.chance(0.9) ? algorithm : random.pick(ALGORITHMS);
    return [token(random, material, used), verificationKey(random, material, algorithm)];
  };

const NOW_NS = number('1700000000000000000');

const constraints = (random: Random, material: Material, algorithm: string): Value => {
  const made: Record<string, Value> = {};
  const key = verificationKey(random, material, algorithm);
  if (random.chance(0.95)) made[random.chance(0.95) === algorithm.startsWith('HS') ? 'secret' : 'cert'] = key;
  if (random.chance(0.3)) made['alg'] = random.chance(0.8) ? algorithm : random.pick(ALGORITHMS);
  if (random.chance(0.3)) made['iss'] = random.pick<Value>(['edict', 'other', 1]);
  if (random.chance(0.35)) made['aud'] = random.pick<Value>(['a', 'b', 'x', ['a']]);
  if (random.chance(0.8)) made['time'] = random.chance(0.9) ? NOW_NS : random.pick(SECONDS);
  if (random.chance(0.05)) made['unknown'] = 1;
  return object(made);
};

/** Algorithms whose signatures are the same each time; others are compared without their signature. */
const signingKey = (random: Random, material: Material, algorithm: string): RegoObject => {
  if (algorithm.startsWith('HS'))
    return RegoObject.of([
      ['kty', 'oct'],
      ['k', random.chance(0.9) ? Buffer.from(SECRET).toString('base64url') : anyText(random)],
    ]);
  const kind = random.chance(0.92) ? kindOf(algorithm) : random.pick<KeyKind>(['rsa', 'p256', 'ed25519']);
  return jwk(random, material, kind, random.chance(0.95));
};

export const tokenGenerators: Generators = {
  'io.jwt.decode': (random, material) => [token(random, material, random.pick(ALGORITHMS))],
  'io.jwt.decode_verify': (random, material) => {
    const algorithm = random.pick(ALGORITHMS);
    return [token(random, material, algorithm), constraints(random, material, algorithm)];
  },
  'io.jwt.encode_sign': (random, material) => {
    const algorithm = random.pick(ALGORITHMS);
    return [
      headerOf(random, algorithm),
      random.chance(0.9) ? claims(random) : anyValue(random, 2),
      signingKey(random, material, algorithm),
    ];
  },
  'io.jwt.encode_sign_raw': (random, material) => {
    const algorithm = random.pick(ALGORITHMS);
    const raw = payload(random);
    return [
      maybeDamaged(random, printValue(headerOf(random, algorithm)), '{}":, a', 0.1),
      typeof raw === 'string' ? raw : maybeDamaged(random, printValue(raw), '{}":, a', 0.1),
      maybeDamaged(random, printValue(signingKey(random, material, algorithm)), '{}":, aA', 0.1),
    ];
  },
  ...Object.fromEntries(ALGORITHMS.map((name) => [`io.jwt.verify_${name.toLowerCase()}`, verifies(name)])),
};
