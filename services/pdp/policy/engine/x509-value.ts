import { goText } from './go-json.ts';
import { type GoUrl, printGoUrl, textOf } from './go-url.ts';
import type { PublicKey } from './public-key.ts';
import { bytesToBigInt } from './public-key.ts';
import { integerOf, RegoObject, type Value } from './value.ts';
import type { Certificate, Extension } from './x509-certificate.ts';
import type { AlternativeNames, IpRange, Subtrees } from './x509-general-names.ts';
import { type Name, printTime } from './x509-names.ts';

export const record = (members: Readonly<Record<string, Value>>): RegoObject => RegoObject.of(Object.entries(members));

export const base64 = (bytes: Buffer): string => bytes.toString('base64');

/** Go writes an empty list that it never made as null. */
const listOrNull = <T>(items: readonly T[] | undefined, show: (item: T) => Value): Value =>
  items === undefined || items.length === 0 ? null : items.map(show);

const same = (item: Value): Value => item;
const bytesOrNull = (bytes: Buffer | undefined): Value => (bytes === undefined ? null : base64(bytes));
const oidValue = (oid: readonly number[]): Value => [...oid];

/** The longest run of two or more zero groups, the first of equals, is left out (RFC 5952). */
const printIpV6 = (ip: Buffer): string => {
  const groups = [0, 2, 4, 6, 8, 10, 12, 14].map((at) => ip.readUInt16BE(at));
  let [start, length] = [-1, 1];
  for (let from = 0; from < 8; from += 1) {
    let to = from;
    while (groups[to] === 0) to += 1;
    if (to - from > length) [start, length] = [from, to - from];
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  return start === -1 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
};

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

/** As Go writes an address: one of IPv4 in IPv6 as the former. */
const printIp = (ip: Buffer): string => {
  if (ip.length === 4) return ip.join('.');
  return ip.subarray(0, 12).equals(MAPPED) ? ip.subarray(12).join('.') : printIpV6(ip);
};

const rangeValue = ({ ip, mask }: IpRange): Value => record({ IP: printIp(ip), Mask: base64(mask) });

const NAME_PARTS: Readonly<Record<string, string>> = {
  '2.5.4.6': 'Country',
  '2.5.4.7': 'Locality',
  '2.5.4.8': 'Province',
  '2.5.4.9': 'StreetAddress',
  '2.5.4.10': 'Organization',
  '2.5.4.11': 'OrganizationalUnit',
  '2.5.4.17': 'PostalCode',
};

export const nameValue = (name: Name): Value => {
  const values = (oid: string): readonly string[] =>
    name
      .filter(({ type }) => type.join('.') === oid)
      .map(({ value }) => value)
      .filter((value) => typeof value === 'string');
  const parts = Object.entries(NAME_PARTS).map(([oid, part]) => [part, listOrNull(values(oid), same)] as const);
  return record({
    ...Object.fromEntries(parts),
    CommonName: values('2.5.4.3').at(-1) ?? '',
    SerialNumber: values('2.5.4.5').at(-1) ?? '',
    Names: listOrNull(name, ({ type, value }) => record({ Type: oidValue(type), Value: value })),
    ExtraNames: null,
  });
};

export const extensionsValue = (extensions: readonly Extension[] | undefined): Value =>
  listOrNull(extensions, ({ id, critical, value }) =>
    record({ Id: oidValue(id), Critical: critical, Value: base64(value) }),
  );

export const publicKeyValue = (key: PublicKey | undefined): Value => {
  if (key === undefined) return null;
  switch (key.type) {
    case 'rsa':
      return record({ N: integerOf(key.n), E: integerOf(key.e) });
    case 'ec':
      return record({
        Curve: record({}),
        X: integerOf(bytesToBigInt(key.x)),
        Y: integerOf(bytesToBigInt(key.y)),
      });
    case 'dsa': {
      const { p, q, g, y } = key;
      return record({ P: integerOf(p), Q: integerOf(q), G: integerOf(g), Y: integerOf(y) });
    }
    case 'ed25519':
      return base64(key.x);
    default:
      return record({});
  }
};

const urlValue = (url: GoUrl): Value =>
  record({
    Scheme: url.scheme,
    Opaque: textOf(url.opaque),
    User: url.user === undefined ? null : record({}),
    Host: textOf(url.host),
    Path: textOf(url.path),
    RawPath: textOf(url.rawPath),
    OmitHost: url.omitHost,
    ForceQuery: url.forceQuery,
    RawQuery: textOf(url.rawQuery),
    Fragment: textOf(url.fragment),
    RawFragment: textOf(url.rawFragment),
  });

export const alternativeNamesValue = (names: AlternativeNames | undefined): Readonly<Record<string, Value>> => ({
  DNSNames: listOrNull(names?.dns, same),
  EmailAddresses: listOrNull(names?.emails, same),
  IPAddresses: listOrNull(names?.ips, printIp),
  URIs: listOrNull(names?.uris, urlValue),
});

const subtreesValue = (
  side: 'Permitted' | 'Excluded',
  trees: Subtrees | undefined,
): Readonly<Record<string, Value>> => ({
  [`${side}DNSDomains`]: listOrNull(trees?.dns, same),
  [`${side}EmailAddresses`]: listOrNull(trees?.emails, same),
  [`${side}IPRanges`]: listOrNull(trees?.ips, rangeValue),
  [`${side}URIDomains`]: listOrNull(trees?.uris, same),
});

/** The arcs of an object identifier of any size. */
const arcsOf = (bytes: Buffer): readonly bigint[] => {
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const byte of bytes) {
    arc = arc * 128n + BigInt(byte & 0x7f);
    if (byte >= 0x80) continue;
    if (arcs.length > 0) arcs.push(arc);
    else if (arc < 80n) arcs.push(arc / 40n, arc % 40n);
    else arcs.push(2n, arc - 80n);
    arc = 0n;
  }
  return arcs;
};

const policiesValue = (policies: readonly Buffer[] | undefined): Readonly<Record<string, Value>> => {
  const oids = (policies ?? []).map(arcsOf);
  // The older of the two lists of Go holds what fits its integers, and is there whenever the extension is.
  const small = oids.filter((arcs) => arcs.every((arc) => arc < 2n ** 31n));
  return {
    Policies: listOrNull(oids, (arcs) => arcs.join('.')),
    PolicyIdentifiers: policies === undefined ? null : small.map((arcs) => arcs.map(integerOf)),
  };
};

/** A limit that is shown with whether it is zero on purpose. */
const limitValue = (name: string, limit: number | undefined): Readonly<Record<string, Value>> => ({
  [name]: limit ?? 0,
  [`${name}Zero`]: limit === 0,
});

/** The certificate as Go's `encoding/json` writes its `x509.Certificate`, member for member. */
export const certificateMembers = (certificate: Certificate): Readonly<Record<string, Value>> => {
  const { basicConstraints: basic, nameConstraints: constraints } = certificate;
  return {
    Raw: base64(certificate.raw),
    RawTBSCertificate: base64(certificate.rawTbs),
    RawSubjectPublicKeyInfo: base64(certificate.rawKey),
    RawSubject: base64(certificate.rawSubject),
    RawIssuer: base64(certificate.rawIssuer),
    Signature: base64(certificate.signature),
    SignatureAlgorithm: certificate.signatureAlgorithm,
    PublicKeyAlgorithm: certificate.publicKeyAlgorithm,
    PublicKey: publicKeyValue(certificate.publicKey),
    Version: certificate.version,
    SerialNumber: integerOf(certificate.serialNumber),
    Issuer: nameValue(certificate.issuer),
    Subject: nameValue(certificate.subject),
    NotBefore: printTime(certificate.notBefore),
    NotAfter: printTime(certificate.notAfter),
    KeyUsage: certificate.keyUsage,
    Extensions: extensionsValue(certificate.extensions),
    ExtraExtensions: null,
    UnhandledCriticalExtensions: listOrNull(certificate.unhandledCritical, oidValue),
    ExtKeyUsage: listOrNull(certificate.extKeyUsage, same),
    UnknownExtKeyUsage: listOrNull(certificate.unknownExtKeyUsage, oidValue),
    BasicConstraintsValid: basic !== undefined,
    IsCA: basic?.isCa ?? false,
    MaxPathLen: basic?.maxPathLen ?? 0,
    MaxPathLenZero: basic?.maxPathLen === 0,
    SubjectKeyId: bytesOrNull(certificate.subjectKeyId),
    AuthorityKeyId: bytesOrNull(certificate.authorityKeyId),
    OCSPServer: listOrNull(certificate.ocspServers, same),
    IssuingCertificateURL: listOrNull(certificate.issuerUris, same),
    ...alternativeNamesValue(certificate.alternativeNames),
    PermittedDNSDomainsCritical: constraints?.critical ?? false,
    ...subtreesValue('Permitted', constraints?.permitted),
    ...subtreesValue('Excluded', constraints?.excluded),
    CRLDistributionPoints: listOrNull(certificate.crlUris, same),
    ...policiesValue(certificate.policies),
    ...limitValue('InhibitAnyPolicy', certificate.inhibitAnyPolicy),
    ...limitValue('InhibitPolicyMapping', certificate.inhibitPolicyMapping),
    ...limitValue('RequireExplicitPolicy', certificate.requireExplicitPolicy),
    PolicyMappings: listOrNull(certificate.policyMappings, ({ issuer, subject }) =>
      record({
        IssuerDomainPolicy: arcsOf(issuer).join('.'),
        SubjectDomainPolicy: arcsOf(subject).join('.'),
      }),
    ),
  };
};

/** The same with OPA's own member: the URIs among the names as texts. */
export const certificateValue = (certificate: Certificate): Value =>
  record({
    ...certificateMembers(certificate),
    URIStrings: listOrNull(certificate.alternativeNames?.uris, (url) => goText(Buffer.from(printGoUrl(url), 'latin1'))),
  });
