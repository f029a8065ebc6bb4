import type { Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generator, Generators } from './generators.ts';
import { KEY_KINDS, type Material } from './material.ts';
import type { Random } from './random.ts';
import { anyText, anyValue, damaged, maybeDamaged, number, object } from './values.ts';

const text: Generator = (random) => [anyText(random)];
const keyed: Generator = (random) => [anyText(random), anyText(random)];

const DAMAGE = 'abcABC012+/=-\n ';
const derOf = (pem: string): string =>
  pem
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('-----'))
    .join('');

/** PEM, its base64 once more, or the bare DER in base64: OPA takes all three in places. */
const inSomeForm = (random: Random, pem: string): string => {
  const form = random.chance(0.6) ? pem : random.chance(0.6) ? derOf(pem) : Buffer.from(pem).toString('base64');
  return maybeDamaged(random, form, DAMAGE, 0.15);
};

const aCertificate = (random: Random, { certificates, root, leaf }: Material): string =>
  random.chance(0.8) ? certificates[random.pick(KEY_KINDS)] : random.pick([root, leaf]);

const aKey = (random: Random, material: Material): string => {
  const kind = random.pick(KEY_KINDS);
  return random.chance(0.5) ? material.private[kind] : (material.legacy[kind] ?? material.public[kind]);
};

const chain = (random: Random, { root, intermediate, leaf, expired, certificates }: Material): string => {
  const chains = [
    [root, intermediate, leaf],
    [root, intermediate, leaf],
    [root, leaf],
    [intermediate, leaf],
    [root, intermediate, expired],
    [leaf, intermediate, root],
    [root],
    [certificates.rsa],
  ];
  return inSomeForm(random, random.pick(chains).join(''));
};

const KEY_USAGES = ['KeyUsageAny', 'KeyUsageServerAuth', 'KeyUsageClientAuth', 'KeyUsageCodeSigning', 'Nonsense'];

const verifyOptions = (random: Random): Value => {
  const options: Record<string, Value> = {};
  if (random.chance(0.5))
    options['DNSName'] = random.pick([
      'leaf.example.com',
      'other.example.com',
      '',
      '*.example.com',
      'LEAF.example.com',
    ]);
  if (random.chance(0.4))
    options['CurrentTime'] = number(
      random.pick(['1700000000000000000', '1600000000000000000', '0', '5000000000000000000', '1.5']),
    );
  if (random.chance(0.3)) options['MaxConstraintComparisons'] = random.pick([0, 1, 100, -1]);
  if (random.chance(0.4)) options['KeyUsages'] = random.many(0, 2, () => random.pick(KEY_USAGES));
  if (random.chance(0.1)) options['Unknown'] = anyValue(random, 1);
  return object(options);
};

export const cryptoGenerators: Generators = {
  'crypto.md5': text,
  'crypto.sha1': text,
  'crypto.sha256': text,
  'crypto.hmac.md5': keyed,
  'crypto.hmac.sha1': keyed,
  'crypto.hmac.sha256': keyed,
  'crypto.hmac.sha512': keyed,
  'crypto.hmac.equal': (random) => {
    const mac = anyText(random);
    return [mac, random.chance(0.5) ? mac : damaged(random, mac, 'ab')];
  },
  'crypto.parse_private_keys': (random, material) => [
    inSomeForm(
      random,
      random.many(1, 2, () => (random.chance(0.85) ? aKey(random, material) : aCertificate(random, material))).join(''),
    ),
  ],
  'crypto.x509.parse_certificates': (random, material) => [
    inSomeForm(
      random,
      random.many(1, 2, () => (random.chance(0.9) ? aCertificate(random, material) : aKey(random, material))).join(''),
    ),
  ],
  'crypto.x509.parse_certificate_request': (random, { requests, certificates }) => {
    const kind = random.pick(KEY_KINDS);
    return [inSomeForm(random, random.chance(0.9) ? requests[kind] : certificates[kind])];
  },
  'crypto.x509.parse_keypair': (random, material) => {
    const kind = random.pick(KEY_KINDS);
    const key = random.chance(0.8) ? material.private[kind] : aKey(random, material);
    return [inSomeForm(random, material.certificates[kind]), inSomeForm(random, key)];
  },
  'crypto.x509.parse_rsa_private_key': (random, material) => [
    inSomeForm(
      random,
      random.chance(0.7)
        ? random.chance(0.5)
          ? material.private.rsa
          : (material.legacy.rsa ?? '')
        : aKey(random, material),
    ),
  ],
  'crypto.x509.parse_and_verify_certificates': (random, material) => [chain(random, material)],
  'crypto.x509.parse_and_verify_certificates_with_options': (random, material) => [
    chain(random, material),
    random.chance(0.9) ? verifyOptions(random) : anyValue(random, 1),
  ],
};
