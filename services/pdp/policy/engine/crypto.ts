import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { type Builtin, type Builtins, text } from './builtin.ts';
import { x509Builtins } from './x509.ts';

const hash =
  (algorithm: string): Builtin =>
  (_, message) =>
    createHash(algorithm).update(text(message)).digest('hex');

const hmac =
  (algorithm: string): Builtin =>
  (_, message, key) =>
    createHmac(algorithm, text(key)).update(text(message)).digest('hex');

/** Takes the same time wherever the two differ; their lengths are no secret. */
const equal: Builtin = (_, first, second) => {
  const [a, b] = [Buffer.from(text(first)), Buffer.from(text(second))];
  return a.length === b.length && timingSafeEqual(a, b);
};

/** Digests (RFC 1321, FIPS 180-4), HMAC (RFC 2104), certificates and keys. */
export const cryptoBuiltins: Builtins = {
  'crypto.md5': hash('md5'),
  'crypto.sha1': hash('sha1'),
  'crypto.sha256': hash('sha256'),
  'crypto.hmac.md5': hmac('md5'),
  'crypto.hmac.sha1': hmac('sha1'),
  'crypto.hmac.sha256': hmac('sha256'),
  'crypto.hmac.sha512': hmac('sha512'),
  'crypto.hmac.equal': equal,
  ...x509Builtins,
};
