import { BuiltinHalt } from './builtin.ts';
import { Der, malformed, rightAlign, Tag } from './der.ts';
import { type PublicKey, readAlgorithm, readPublicKey } from './public-key.ts';
import { type CertificateExtensions, readExtensions } from './x509-extensions.ts';
import { type CertificateTime, type Name, readName, readTime } from './x509-names.ts';
import { publicKeyAlgorithm, signatureAlgorithm } from './x509-algorithms.ts';

export interface Extension {
  readonly id: readonly number[];
  readonly critical: boolean;
  readonly value: Buffer;
}

/** An X.509 certificate (RFC 5280) with what Go's parser takes from it, under shorter names. */
export interface Certificate extends CertificateExtensions {
  readonly raw: Buffer;
  readonly rawTbs: Buffer;
  readonly rawKey: Buffer;
  readonly rawSubject: Buffer;
  readonly rawIssuer: Buffer;
  readonly signature: Buffer;
  /** Go's number of the algorithm, as is the next one; 0 for unknown ones. */
  readonly signatureAlgorithm: number;
  readonly publicKeyAlgorithm: number;
  /** `undefined` when the algorithm is unknown. */
  readonly publicKey: PublicKey | undefined;
  /** 1 to 3. */
  readonly version: number;
  readonly serialNumber: bigint;
  readonly issuer: Name;
  readonly subject: Name;
  readonly notBefore: CertificateTime;
  readonly notAfter: CertificateTime;
  /** `undefined` for a certificate that has no list of them. */
  readonly extensions: readonly Extension[] | undefined;
}

/** Most certificates of one text: each costs memory many times its size. */
const MAX_CERTIFICATES = 1000;

export const readExtension = (der: Der): Extension => {
  const id = der.oid();
  const critical = der.peek(Tag.boolean) && der.boolean();
  return { id, critical, value: der.read(Tag.octetString).content };
};

const readVersion = (tbs: Der): number => {
  const content = tbs.optional(Tag.constructed(0));
  if (content === undefined) return 1;
  const der = new Der(content);
  const version = der.int64();
  return der.empty && version >= 0n && version <= 2n ? Number(version) + 1 : malformed('version');
};

/** Reads the whole element of a SubjectPublicKeyInfo; the key of an algorithm that Go does not know is `undefined`. */
export const readKeyInfo = (whole: Buffer): Pick<Certificate, 'rawKey' | 'publicKey' | 'publicKeyAlgorithm'> => {
  const info = new Der(whole).enter(Tag.sequence);
  const algorithm = readAlgorithm(info.enter(Tag.sequence));
  const bits = info.bitString();
  const number = publicKeyAlgorithm(algorithm);
  return {
    rawKey: whole,
    publicKeyAlgorithm: number,
    publicKey: number === 0 ? undefined : readPublicKey(algorithm, bits),
  };
};

const readExtensionList = (tbs: Der, version: number): readonly Extension[] | undefined => {
  if (version === 1) return undefined;
  tbs.optional(Tag.context(1));
  tbs.optional(Tag.context(2));
  const content = version === 3 ? tbs.optional(Tag.constructed(3)) : undefined;
  if (content === undefined) return undefined;
  const extensions: Extension[] = [];
  const seen = new Set<string>();
  for (const list = new Der(content).enter(Tag.sequence); !list.empty;) {
    const extension = readExtension(list.enter(Tag.sequence));
    const oid = extension.id.join('.');
    if (seen.has(oid)) return malformed('certificate: the same extension twice');
    seen.add(oid);
    extensions.push(extension);
  }
  return extensions.length === 0 ? undefined : extensions;
};

const readCertificate = (whole: Buffer): Certificate => {
  const outer = new Der(whole).enter(Tag.sequence);
  const { whole: rawTbs, content } = outer.read(Tag.sequence);
  const tbs = new Der(content);
  const version = readVersion(tbs);
  const serialNumber = tbs.integer();
  if (serialNumber < 0n) return malformed('serial number');
  const inner = tbs.read(Tag.sequence).content;
  if (!outer.read(Tag.sequence).content.equals(inner)) return malformed('certificate: two signature algorithms');
  const algorithm = readAlgorithm(new Der(inner));
  const rawIssuer = tbs.read(Tag.sequence).whole;
  const issuer = readName(rawIssuer);
  const validity = tbs.enter(Tag.sequence);
  const [notBefore, notAfter] = [readTime(validity), readTime(validity)];
  const rawSubject = tbs.read(Tag.sequence).whole;
  const subject = readName(rawSubject);
  const key = readKeyInfo(tbs.read(Tag.sequence).whole);
  const extensions = readExtensionList(tbs, version);
  return {
    ...key,
    ...readExtensions(extensions ?? []),
    raw: whole,
    rawTbs,
    rawSubject,
    rawIssuer,
    signature: rightAlign(outer.bitString()),
    signatureAlgorithm: signatureAlgorithm(algorithm),
    version,
    serialNumber,
    issuer,
    subject,
    notBefore,
    notAfter,
    extensions,
  };
};

/** The certificates of concatenated DER, as Go's parser reads them. Throws `BuiltinError`. */
export const parseCertificates = (bytes: Buffer): readonly Certificate[] => {
  const certificates: Certificate[] = [];
  for (const der = new Der(bytes); !der.empty;) {
    if (certificates.length === MAX_CERTIFICATES) throw new BuiltinHalt('more certificates than are read here');
    certificates.push(readCertificate(der.read(Tag.sequence).whole));
  }
  return certificates;
};

export const parseCertificate = (bytes: Buffer): Certificate => {
  const [first, ...others] = parseCertificates(bytes);
  return first === undefined || others.length > 0 ? malformed('certificate') : first;
};
