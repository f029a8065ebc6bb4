import { isIP } from 'node:net';
import { isSignedBy } from './x509-algorithms.ts';
import type { Certificate, Extension } from './x509-certificate.ts';
import { areNamesAllowed, comparisonBudget } from './x509-constraints.ts';
import { arePoliciesValid } from './x509-policies.ts';
import { verifyCost } from './key-cost.ts';
import type { Spend } from './prices.ts';

/** What a chain must be good for. */
export interface VerifyOptions {
  /** Nanoseconds since 1970. */
  readonly nowNs: bigint;
  readonly spend: Spend;
  /** The host that the leaf must be for; empty for any. */
  readonly dnsName: string;
  /** Key purposes by Go's numbers: one of them is demanded of the whole chain. Empty for that of a TLS server. */
  readonly keyUsages: readonly number[];
}

const SERVER_AUTH = 1;
const ANY_USAGE = 0;
const CERT_SIGN = 1 << 5;
/** As many signatures as Go checks: without a bound, cross-signed certificates make exponential work. */
const MAX_SIGNATURES = 100;

const isInTime = ({ notBefore, notAfter }: Certificate, nowNs: bigint): boolean =>
  nowNs >= BigInt(notBefore.ms) * 1_000_000n && nowNs <= BigInt(notAfter.ms) * 1_000_000n;

/** What holds of every certificate in a chain; `below` is what stands under it, leaf first. */
const isUsable = (certificate: Certificate, below: readonly Certificate[], nowNs: bigint): boolean => {
  const child = below.at(-1);
  const maxPathLen = certificate.basicConstraints?.maxPathLen ?? -1;
  return (
    certificate.unhandledCritical.length === 0 &&
    (child === undefined || child.rawIssuer.equals(certificate.rawSubject)) &&
    isInTime(certificate, nowNs) &&
    (maxPathLen < 0 || below.length - 1 <= maxPathLen)
  );
};

const isIssuedBy = (child: Certificate, parent: Certificate): boolean => {
  const { basicConstraints: basic, keyUsage, publicKey } = parent;
  if (basic === undefined ? parent.version === 3 : !basic.isCa) return false;
  if (keyUsage !== 0 && (keyUsage & CERT_SIGN) === 0) return false;
  return publicKey !== undefined && isSignedBy(publicKey, child.signatureAlgorithm, child.rawTbs, child.signature);
};

const alternativeNamesOf = ({ extensions }: Certificate): Extension | undefined =>
  extensions?.find(({ id }) => id.join('.') === '2.5.29.17');

/** The same subject, key and names: a certificate that would only make the chain longer. */
const isInChain = (candidate: Certificate, chain: readonly Certificate[]): boolean => {
  const names = alternativeNamesOf(candidate);
  for (const certificate of chain) {
    if (!candidate.rawSubject.equals(certificate.rawSubject) || !candidate.rawKey.equals(certificate.rawKey)) continue;
    const others = alternativeNamesOf(certificate);
    if (names === undefined || others === undefined) return names === others;
    if (names.value.equals(others.value)) return true;
  }
  return false;
};

const keyIdRank = (candidate: Certificate, child: Certificate): number => {
  const subject = candidate.subjectKeyId ?? Buffer.alloc(0);
  const authority = child.authorityKeyId ?? Buffer.alloc(0);
  if (subject.equals(authority)) return 0;
  return subject.length === 0 || authority.length === 0 ? 1 : 2;
};

/** Those that may have issued the certificate, the most likely first. */
const candidatesOf = (child: Certificate, pool: readonly Certificate[]): readonly Certificate[] =>
  pool
    .filter(({ rawSubject }) => rawSubject.equals(child.rawIssuer))
    .sort((a, b) => keyIdRank(a, child) - keyIdRank(b, child));

const buildChains = (
  leaf: Certificate,
  root: Certificate,
  intermediates: readonly Certificate[],
  { nowNs, spend }: Pick<VerifyOptions, 'nowNs' | 'spend'>,
): readonly (readonly Certificate[])[] => {
  const chains: (readonly Certificate[])[] = [];
  let signatures = 0;
  const extend = (chain: readonly Certificate[], child: Certificate): void => {
    const isParent = (candidate: Certificate): boolean => {
      signatures += 1;
      if (candidate.publicKey !== undefined) spend(verifyCost(candidate.publicKey));
      return (
        signatures <= MAX_SIGNATURES &&
        candidate.publicKey !== undefined &&
        !isInChain(candidate, chain) &&
        isIssuedBy(child, candidate) &&
        isUsable(candidate, chain, nowNs)
      );
    };
    for (const candidate of candidatesOf(child, [root])) if (isParent(candidate)) chains.push([...chain, candidate]);
    for (const candidate of candidatesOf(child, intermediates))
      if (isParent(candidate) && candidate.basicConstraints?.isCa === true) extend([...chain, candidate], candidate);
  };
  extend([leaf], leaf);
  return chains;
};

const lower = (text: string): string => text.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase());

const isHostname = (name: string, isPattern: boolean): boolean => {
  const labels = (isPattern && name.startsWith('*.') ? name.slice(2) : name).split('.');
  return labels.every((label) => /^[a-zA-Z0-9_][a-zA-Z0-9_-]*$/.test(label));
};

const ipBytes = (address: string): Buffer => {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address
    .replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...parts: string[]) => {
      const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
      return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
    })
    .split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const [front, back] = [groups(head), groups(tail ?? '')];
  const all = [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back];
  const bytes = Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
  return withoutMapping(bytes);
};

const withoutMapping = (ip: Buffer): Buffer =>
  ip.length === 16 && ip.toString('hex').startsWith('00000000000000000000ffff') ? ip.subarray(12) : ip;

/** RFC 6125 as Go has it: the subject is never looked at, a wildcard is one whole label, the leftmost. */
const isForHost = (certificate: Certificate, host: string): boolean => {
  const { dns = [], ips = [] } = certificate.alternativeNames ?? {};
  const address = /^\[.+\]$/.test(host) ? host.slice(1, -1) : host;
  if (isIP(address) !== 0 && !address.includes('%')) {
    const wanted = ipBytes(address);
    return ips.some((ip) => withoutMapping(ip).equals(wanted));
  }
  const name = lower(host);
  const plain = name.endsWith('.') ? name.slice(0, -1) : name;
  const isPlainHost = isHostname(plain, false);
  const labels = plain.split('.');
  return dns.some((pattern) => {
    if (!isPlainHost || !isHostname(pattern, true)) return name !== '.' && pattern !== '.' && lower(pattern) === name;
    const parts = lower(pattern).split('.');
    return (
      parts.length === labels.length &&
      parts.every((part, index) => (index === 0 && part === '*') || part === labels[index])
    );
  });
};

/** Whether one of the purposes is allowed by every certificate of the chain; one that lists none allows all. */
const isForUsage = (chain: readonly Certificate[], usages: readonly number[]): boolean => {
  let left = usages;
  for (const { extKeyUsage, unknownExtKeyUsage } of [...chain].reverse()) {
    if (extKeyUsage.length + unknownExtKeyUsage.length === 0 || extKeyUsage.includes(ANY_USAGE)) continue;
    left = left.filter((usage) => extKeyUsage.includes(usage));
    if (left.length === 0) return false;
  }
  return true;
};

/**
 * The first valid chain, leaf first, from the last certificate to the first, which is the one trusted root; the
 * others are intermediates. `undefined` when there is none. The rules are those of Go's `Certificate.Verify`.
 */
export const verifyChain = (
  certificates: readonly Certificate[],
  { nowNs, dnsName, keyUsages, spend }: VerifyOptions,
): readonly Certificate[] | undefined => {
  const [root, leaf] = [certificates[0], certificates.at(-1)];
  if (root === undefined || leaf === undefined || certificates.length < 2) return undefined;
  if (!isUsable(leaf, [], nowNs)) return undefined;
  if (dnsName !== '' && !isForHost(leaf, dnsName)) return undefined;
  const seen = new Set<string>();
  const intermediates = certificates.slice(1, -1).filter(({ raw }) => {
    const key = raw.toString('base64');
    return seen.size < seen.add(key).size;
  });
  const chains = leaf.raw.equals(root.raw) ? [[leaf]] : buildChains(leaf, root, intermediates, { nowNs, spend });
  const usages = keyUsages.length === 0 ? [SERVER_AUTH] : keyUsages;
  const budget = comparisonBudget();
  return chains.find(
    (chain) =>
      arePoliciesValid(chain) &&
      (usages.includes(ANY_USAGE) || isForUsage(chain, usages)) &&
      areNamesAllowed(chain, budget),
  );
};
