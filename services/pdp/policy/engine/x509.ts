import { type Builtin, type BuiltinContext, BuiltinError, type Builtins, members, object, text } from './builtin.ts';
import { trimmed } from './go-json.ts';
import { int64 } from './int64.ts';
import { decodeBase64, nextPemBlock } from './pem.ts';
import { isPairOf, jwkValue, parsePrivateKey, parsePrivateKeys, privateKeyValue } from './private-key.ts';
import type { Value } from './value.ts';
import { type Certificate, parseCertificate, parseCertificates } from './x509-certificate.ts';
import { requestValue } from './x509-request.ts';
import { base64, certificateMembers, certificateValue, record } from './x509-value.ts';
import { verifyChain, type VerifyOptions } from './x509-verify.ts';

const BEGIN = '-----BEGIN';

const standard = (value: string): Buffer => decodeBase64(value, 'standard', true);

/** The blocks of a text one after the other, without what stands between them. */
const pemBlocks = function* (pem: string): Generator<{ readonly type: string; readonly bytes: Buffer }> {
  for (let found = nextPemBlock(pem); found !== undefined; found = nextPemBlock(found.rest)) yield found.block;
};

const certificatesOfPem = (pem: string): readonly Certificate[] => {
  const bytes: Buffer[] = [];
  for (const block of pemBlocks(pem)) {
    if (block.type !== 'CERTIFICATE') throw new BuiltinError('a PEM block that is no certificate');
    bytes.push(block.bytes);
  }
  return parseCertificates(Buffer.concat(bytes));
};

/** Certificates as PEM, or as base64 of PEM or of DER. */
const certificatesOf = (encoded: string): readonly Certificate[] => {
  if (encoded.startsWith(BEGIN)) return certificatesOfPem(encoded);
  const bytes = standard(encoded);
  const decoded = bytes.toString('latin1');
  return decoded.startsWith(BEGIN) ? certificatesOfPem(decoded) : parseCertificates(bytes);
};

const UNVERIFIED: Value = [false, []];

/** What is no certificate is not verified, rather than an error. */
const verify = (encoded: string, options: () => VerifyOptions, show: (certificate: Certificate) => Value): Value => {
  let certificates: readonly Certificate[];
  try {
    certificates = certificatesOf(encoded);
  } catch (cause) {
    if (cause instanceof BuiltinError) return UNVERIFIED;
    throw cause;
  }
  const chain = verifyChain(certificates, options());
  return chain === undefined ? UNVERIFIED : [true, chain.map(show)];
};

/** Names of key purposes in the order of Go's numbers. */
const KEY_USAGES: readonly string[] = [
  'KeyUsageAny',
  'KeyUsageServerAuth',
  'KeyUsageClientAuth',
  'KeyUsageCodeSigning',
  'KeyUsageEmailProtection',
  'KeyUsageIPSECEndSystem',
  'KeyUsageIPSECTunnel',
  'KeyUsageIPSECUser',
  'KeyUsageTimeStamping',
  'KeyUsageOCSPSigning',
  'KeyUsageMicrosoftServerGatedCrypto',
  'KeyUsageNetscapeServerGatedCrypto',
  'KeyUsageMicrosoftCommercialCodeSigning',
  'KeyUsageMicrosoftKernelCodeSigning',
];

const unquoted = (value: string): string => trimmed(value, '"');

const keyUsage = (name: string): number => {
  const number = KEY_USAGES.indexOf(unquoted(name));
  if (number === -1) throw new BuiltinError('an unknown key usage');
  return number;
};

const verifyOptions = (context: BuiltinContext, value: Value | undefined): VerifyOptions => {
  let options: VerifyOptions = { nowNs: context.nowNs, spend: context.spend, dnsName: '', keyUsages: [] };
  for (const [name, setting] of object(value).entries) {
    if (typeof name !== 'string') continue;
    if (name === 'DNSName') options = { ...options, dnsName: unquoted(text(setting)) };
    else if (name === 'CurrentTime') options = { ...options, nowNs: int64(setting) };
    // Go has given up the limit; it is still read.
    else if (name === 'MaxConstraintComparisons') int64(setting);
    else if (name === 'KeyUsages') {
      const names = members(setting).filter((member) => typeof member === 'string');
      options = { ...options, keyUsages: names.map(keyUsage) };
    } else throw new BuiltinError('an unknown option');
  }
  return options;
};

/** A PEM text, or base64 of one; base64 of DER becomes the one block that it is. */
const blocksOf = (encoded: string, type: string): Iterable<{ readonly type: string; readonly bytes: Buffer }> => {
  if (encoded.startsWith(`${BEGIN} `)) return pemBlocks(encoded);
  const bytes = standard(encoded);
  const decoded = bytes.toString('latin1');
  return decoded.startsWith(BEGIN) ? pemBlocks(decoded) : [{ type, bytes }];
};

const parseKeyPair: Builtin = (_, certificateText, keyText) => {
  const [certificateInput, keyInput] = [text(certificateText), text(keyText)];
  const certificates = [...blocksOf(certificateInput, 'CERTIFICATE')].filter(({ type }) => type === 'CERTIFICATE');
  const keys = [...blocksOf(keyInput, 'PRIVATE KEY')].filter(({ type }) => /(?:^| )PRIVATE KEY$/.test(type));
  const [leafBlock] = certificates;
  const [keyBlock] = keys;
  if (leafBlock === undefined || keyBlock === undefined) throw new BuiltinError('a certificate and a key expected');
  const leaf = parseCertificate(leafBlock.bytes);
  const key = parsePrivateKey(keyBlock.bytes);
  if (!isPairOf(key, leaf.publicKey)) throw new BuiltinError('the key is not that of the certificate');
  return record({
    Certificate: certificates.map(({ bytes }) => base64(bytes)),
    PrivateKey: privateKeyValue(key),
    SupportedSignatureAlgorithms: null,
    OCSPStaple: null,
    SignedCertificateTimestamps: null,
    Leaf: record(certificateMembers(leaf)),
  });
};

const parseRequest: Builtin = (_, value) => {
  const encoded = text(value);
  const isPem = encoded.startsWith('-----BEGIN CERTIFICATE REQUEST-----');
  const bytes = isPem ? Buffer.from(encoded) : standard(encoded);
  const block = nextPemBlock(bytes.toString('latin1'))?.block;
  if (block !== undefined && block.type !== 'CERTIFICATE REQUEST') throw new BuiltinError('no certificate request');
  return requestValue(block?.bytes ?? bytes);
};

/** The text, or what it is base64 of. */
const pemText = (encoded: string): string => {
  try {
    return standard(encoded).toString('latin1');
  } catch (cause) {
    if (cause instanceof BuiltinError) return encoded;
    throw cause;
  }
};

const parseKeys: Builtin = (_, value) => {
  const encoded = text(value);
  return encoded === '' ? null : parsePrivateKeys(pemText(encoded)).map(privateKeyValue);
};

const parseRsaKey: Builtin = (_, value) => {
  const encoded = text(value);
  if (encoded === '') throw new BuiltinError('no key');
  const pem = encoded.startsWith(BEGIN) ? encoded : standard(encoded).toString('latin1');
  const [key] = parsePrivateKeys(pemText(pem));
  return key === undefined ? null : jwkValue(key);
};

/** X.509 (RFC 5280, RFC 2986) and private keys (RFC 5208, RFC 5915, RFC 8017), shown as Go's JSON shows them. */
export const x509Builtins: Builtins = {
  'crypto.parse_private_keys': parseKeys,
  'crypto.x509.parse_and_verify_certificates': (context, value) =>
    verify(
      text(value),
      () => ({ nowNs: context.nowNs, spend: context.spend, dnsName: '', keyUsages: [] }),
      certificateValue,
    ),
  'crypto.x509.parse_and_verify_certificates_with_options': (context, value, options) =>
    verify(
      text(value),
      () => verifyOptions(context, options),
      (certificate) => record(certificateMembers(certificate)),
    ),
  'crypto.x509.parse_certificate_request': parseRequest,
  'crypto.x509.parse_certificates': (_, value) => certificatesOf(text(value)).map(certificateValue),
  'crypto.x509.parse_keypair': parseKeyPair,
  'crypto.x509.parse_rsa_private_key': parseRsaKey,
};
