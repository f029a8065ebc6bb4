import { bitAt, Der, malformed, Tag } from './der.ts';
import type { Extension } from './x509-certificate.ts';
import { goText } from './go-json.ts';
import {
  type AlternativeNames,
  type NameConstraints,
  readAlternativeNames,
  readNameConstraints,
} from './x509-general-names.ts';

type Oid = readonly number[];

/** A policy mapping (RFC 5280, 4.2.1.5), by the bytes of the two identifiers. */
export interface PolicyMapping {
  readonly issuer: Buffer;
  readonly subject: Buffer;
}

/** What the extensions of a certificate say; without the extension, its part is absent. */
export interface CertificateExtensions {
  /** Bits as in RFC 5280, 4.2.1.3: the first is 1. 0 without the extension. */
  readonly keyUsage: number;
  /** `maxPathLen` is -1 when there is no limit. */
  readonly basicConstraints: { readonly isCa: boolean; readonly maxPathLen: number } | undefined;
  readonly alternativeNames: AlternativeNames | undefined;
  readonly nameConstraints: (NameConstraints & { readonly critical: boolean }) | undefined;
  readonly crlUris: readonly string[];
  readonly subjectKeyId: Buffer | undefined;
  readonly authorityKeyId: Buffer | undefined;
  /** Key purposes that Go knows, by its numbers, and all others. */
  readonly extKeyUsage: readonly number[];
  readonly unknownExtKeyUsage: readonly Oid[];
  readonly ocspServers: readonly string[];
  readonly issuerUris: readonly string[];
  /** The bytes of the identifiers. */
  readonly policies: readonly Buffer[] | undefined;
  readonly policyMappings: readonly PolicyMapping[];
  readonly requireExplicitPolicy: number | undefined;
  readonly inhibitPolicyMapping: number | undefined;
  readonly inhibitAnyPolicy: number | undefined;
  readonly unhandledCritical: readonly Oid[];
}

type Draft = { -readonly [Part in keyof CertificateExtensions]: CertificateExtensions[Part] };

const KEY_PURPOSE = '1.3.6.1.5.5.7.3.';
/** Key purposes by their number in Go. */
const KEY_PURPOSES: readonly string[] = [
  '2.5.29.37.0',
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((arc) => KEY_PURPOSE + String(arc)),
  '1.3.6.1.4.1.311.10.3.3',
  '2.16.840.1.113730.4.1',
  '1.3.6.1.4.1.311.2.1.22',
  '1.3.6.1.4.1.311.61.1.1',
];

const sequence = (value: Buffer): Der => new Der(value).enter(Tag.sequence);

const refuseCritical = (extension: Extension, what: string): void => {
  if (extension.critical) malformed(`certificate: critical ${what}`);
};

const readKeyUsage = (value: Buffer): number => {
  const bits = new Der(value).bitString();
  return [0, 1, 2, 3, 4, 5, 6, 7, 8].reduce((usage, bit) => usage | (bitAt(bits, bit) ? 1 << bit : 0), 0);
};

const readBasicConstraints = (value: Buffer): CertificateExtensions['basicConstraints'] => {
  const der = sequence(value);
  const isCa = der.peek(Tag.boolean) && der.boolean();
  if (!der.peek(Tag.integer)) return { isCa, maxPathLen: -1 };
  const length = der.int64();
  return length < 0n ? malformed('basic constraints') : { isCa, maxPathLen: Number(length) };
};

const readCrlUris = (value: Buffer): readonly string[] => {
  const uris: string[] = [];
  for (const points = sequence(value); !points.empty;) {
    const name = points.enter(Tag.sequence).optional(Tag.constructed(0));
    if (name === undefined) continue;
    for (const names = new Der(name).enter(Tag.constructed(0)); names.peek(Tag.context(6));)
      uris.push(goText(names.element().content));
  }
  return uris;
};

const readAuthorityKeyId = (value: Buffer): Buffer | undefined => sequence(value).optional(Tag.context(0));

const readKeyPurposes = (value: Buffer, draft: Draft): void => {
  const known: number[] = [];
  const unknown: Oid[] = [];
  for (const purposes = sequence(value); !purposes.empty;) {
    const oid = purposes.oid();
    const number = KEY_PURPOSES.indexOf(oid.join('.'));
    if (number === -1) unknown.push(oid);
    else known.push(number);
  }
  draft.extKeyUsage = known;
  draft.unknownExtKeyUsage = unknown;
};

/** Whether the bytes are those of an object identifier; its arcs may be of any size. */
const isOid = (bytes: Buffer): boolean => {
  const isStart = (index: number): boolean => index === 0 || (bytes[index - 1] ?? 0) < 0x80;
  return (
    bytes.length > 0 && (bytes.at(-1) ?? 0) < 0x80 && !bytes.some((byte, index) => byte === 0x80 && isStart(index))
  );
};

const readPolicies = (value: Buffer): readonly Buffer[] => {
  const seen = new Map<string, Buffer>();
  for (const policies = sequence(value); !policies.empty;) {
    const policy = policies.enter(Tag.sequence).read(Tag.oid).content;
    const key = policy.toString('hex');
    if (seen.has(key) || !isOid(policy)) return malformed('certificate policies');
    seen.set(key, policy);
  }
  return [...seen.values()];
};

const readPolicyMappings = (value: Buffer): readonly PolicyMapping[] => {
  const mappings: PolicyMapping[] = [];
  for (const list = sequence(value); !list.empty;) {
    const mapping = list.enter(Tag.sequence);
    mappings.push({ issuer: mapping.read(Tag.oid).content, subject: mapping.read(Tag.oid).content });
  }
  return mappings;
};

const readPolicyConstraints = (value: Buffer, draft: Draft): void => {
  const der = sequence(value);
  if (der.peek(Tag.context(0))) draft.requireExplicitPolicy = Number(der.int64(Tag.context(0)));
  if (der.peek(Tag.context(1))) draft.inhibitPolicyMapping = Number(der.int64(Tag.context(1)));
};

const readAuthorityInfo = (value: Buffer, draft: Draft): void => {
  const [ocsp, issuers]: [string[], string[]] = [[], []];
  for (const list = sequence(value); !list.empty;) {
    const access = list.enter(Tag.sequence);
    const method = access.oid().join('.');
    const uri = access.optional(Tag.context(6));
    if (uri === undefined) continue;
    if (method === '1.3.6.1.5.5.7.48.1') ocsp.push(goText(uri));
    if (method === '1.3.6.1.5.5.7.48.2') issuers.push(goText(uri));
  }
  draft.ocspServers = ocsp;
  draft.issuerUris = issuers;
};

/** Takes an extension into the draft; false when it is none that Go understands. */
const takeExtension = (extension: Extension, draft: Draft): boolean => {
  const { value } = extension;
  switch (extension.id.join('.')) {
    case '2.5.29.14':
      refuseCritical(extension, 'subject key identifier');
      draft.subjectKeyId = new Der(value).read(Tag.octetString).content;
      return true;
    case '2.5.29.15':
      draft.keyUsage = readKeyUsage(value);
      return true;
    case '2.5.29.17': {
      const names = readAlternativeNames(value);
      draft.alternativeNames = names;
      return names.dns.length + names.emails.length + names.ips.length + names.uris.length > 0;
    }
    case '2.5.29.19':
      draft.basicConstraints = readBasicConstraints(value);
      return true;
    case '2.5.29.30': {
      const constraints = readNameConstraints(value);
      draft.nameConstraints = { ...constraints, critical: extension.critical };
      return !constraints.hasUnknown;
    }
    case '2.5.29.31':
      draft.crlUris = readCrlUris(value);
      return true;
    case '2.5.29.32':
      draft.policies = readPolicies(value);
      return true;
    case '2.5.29.33':
      draft.policyMappings = readPolicyMappings(value);
      return true;
    case '2.5.29.35':
      refuseCritical(extension, 'authority key identifier');
      draft.authorityKeyId = readAuthorityKeyId(value);
      return true;
    case '2.5.29.36':
      readPolicyConstraints(value, draft);
      return true;
    case '2.5.29.37':
      readKeyPurposes(value, draft);
      return true;
    case '2.5.29.54':
      draft.inhibitAnyPolicy = Number(new Der(value).int64());
      return true;
    case '1.3.6.1.5.5.7.1.1':
      refuseCritical(extension, 'authority information access');
      readAuthorityInfo(value, draft);
      return true;
    default:
      return false;
  }
};

/** Reads the extensions that Go's X.509 understands. Throws `BuiltinError` when one of them is malformed. */
export const readExtensions = (extensions: readonly Extension[]): CertificateExtensions => {
  const unhandledCritical: Oid[] = [];
  const draft: Draft = {
    keyUsage: 0,
    basicConstraints: undefined,
    alternativeNames: undefined,
    nameConstraints: undefined,
    crlUris: [],
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    extKeyUsage: [],
    unknownExtKeyUsage: [],
    ocspServers: [],
    issuerUris: [],
    policies: undefined,
    policyMappings: [],
    requireExplicitPolicy: undefined,
    inhibitPolicyMapping: undefined,
    inhibitAnyPolicy: undefined,
    unhandledCritical,
  };
  for (const extension of extensions)
    if (!takeExtension(extension, draft) && extension.critical) unhandledCritical.push(extension.id);
  return draft;
};
