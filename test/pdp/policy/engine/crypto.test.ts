import { createHash, createHmac, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { BuiltinError, BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { cryptoBuiltins } from '../../../../services/pdp/policy/engine/crypto.ts';
import { call, context, testCases } from './recorded-cases.ts';

const crypto = (name: string, ...args: readonly unknown[]): unknown => {
  const result = call(cryptoBuiltins, `crypto.${name}`, ...args.map((arg) => JSON.stringify(arg)));
  return result === undefined ? undefined : (JSON.parse(result) as unknown);
};

/** A text among the recorded ones that starts with one certificate. */
const somePem = (): string => {
  const { texts } = JSON.parse(readFileSync(new URL('./x509-chain-cases.json', import.meta.url), 'utf8')) as {
    texts: string[];
  };
  const [pem] = /-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----\n/.exec(JSON.parse(texts[0]!) as string)!;
  return pem;
};

describe('digests, certificates and keys', () => {
  testCases(cryptoBuiltins, './crypto-cases.json');
});

describe('chains of certificates', () => {
  testCases(cryptoBuiltins, './x509-chain-cases.json');
});

describe('digests', () => {
  test('are those of the UTF-8 bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (message, key) => {
        expect(crypto('sha256', message)).toBe(createHash('sha256').update(message).digest('hex'));
        expect(crypto('hmac.sha512', message, key)).toBe(createHmac('sha512', key).update(message).digest('hex'));
        expect(crypto('hmac.equal', message, key)).toBe(message === key);
      }),
    );
  });
});

describe('a certificate', () => {
  test('is shown with what OpenSSL reads in it', () => {
    const pem = somePem();
    const [shown] = crypto('x509.parse_certificates', pem) as { Raw: string; SerialNumber: number }[];
    const certificate = new X509Certificate(pem);
    expect(shown!.Raw).toBe(certificate.raw.toString('base64'));
    expect(shown!.SerialNumber).toBe(Number(`0x${certificate.serialNumber}`));
  });

  test('with any byte changed is refused or read, and never verifies as a root of its own', () => {
    const der = new X509Certificate(somePem()).raw;
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = Buffer.from(der);
        changed[at] = changed[at]! ^ change;
        const chain = Buffer.concat([der, changed]).toString('base64');
        expect(crypto('x509.parse_and_verify_certificates', chain)).toEqual([false, []]);
      }),
    );
  });

  test('in texts of megabytes is read or refused at once', () => {
    const nested = Buffer.alloc(4_000_000, Buffer.from('3080', 'hex'));
    const started = performance.now();
    for (const text of ['"'.repeat(5_000_000), nested.toString('base64'), '-----BEGIN A-----\n'.repeat(250_000)]) {
      for (const name of ['x509.parse_certificates', 'x509.parse_certificate_request', 'x509.parse_rsa_private_key'])
        expect([undefined, null, '[]']).toContain(attempt(name, text));
    }
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  test('beside a thousand others fails the decision', () => {
    const many = Buffer.concat(Array<Buffer>(1001).fill(new X509Certificate(somePem()).raw)).toString('base64');
    expect(() => cryptoBuiltins['crypto.x509.parse_certificates']!(context, many)).toThrow(BuiltinHalt);
  });
});

describe('private keys', () => {
  test('beside a hundred others fail the decision', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
    expect(crypto('parse_private_keys', pem.repeat(100))).toHaveLength(100);
    expect(() => cryptoBuiltins['crypto.parse_private_keys']!(context, pem.repeat(101))).toThrow(BuiltinHalt);
  });
});

const attempt = (name: string, text: string): unknown => {
  try {
    const result = cryptoBuiltins[`crypto.${name}`]!(context, text);
    return Array.isArray(result) ? '[]' : result;
  } catch (cause) {
    if (cause instanceof BuiltinError) return undefined;
    throw cause;
  }
};
