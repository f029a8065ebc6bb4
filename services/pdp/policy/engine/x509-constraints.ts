import { isIP } from 'node:net';
import { BuiltinHalt } from './builtin.ts';
import { textOf } from './go-url.ts';
import type { Certificate } from './x509-certificate.ts';
import { type IpRange, isDomain, type Mailbox, parseMailbox, type Subtrees } from './x509-general-names.ts';

/** The names of a certificate in the form in which constraints are checked. */
interface CheckedNames {
  readonly dns: readonly string[];
  readonly ips: readonly Buffer[];
  /** Hosts of its URIs. */
  readonly hosts: readonly string[];
  readonly mailboxes: readonly Mailbox[];
}

const lower = (name: string): string => name.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase());

/** Whether a domain is the one of the constraint or below it; one that starts with a dot means only those below. */
const isWithinDomain = (name: string, constraint: string): boolean => {
  const [domain, suffix] = [lower(name), lower(constraint)];
  if (!domain.endsWith(suffix)) return false;
  return suffix === '' || suffix.startsWith('.') || domain === suffix || domain.at(-suffix.length - 1) === '.';
};

/** A wildcard stands for the excluded names beside it too. */
const isExcludedWildcard = (name: string, constraint: string): boolean => {
  const [wildcard, excluded] = [lower(name), lower(constraint)];
  const dot = excluded.indexOf('.');
  return (
    wildcard.startsWith('*') &&
    dot !== -1 &&
    wildcard.includes('.') &&
    wildcard.slice(wildcard.indexOf('.')) === excluded.slice(dot)
  );
};

const isWithinRange = (ip: Buffer, range: IpRange): boolean =>
  ip.length === range.ip.length && ip.every((byte, at) => ((byte ^ (range.ip[at] ?? 0)) & (range.mask[at] ?? 0)) === 0);

const isExcludedMailbox = ({ domain }: Mailbox, constraint: string): boolean =>
  !constraint.includes('@') && isExcludedWildcard(domain, constraint);

const isMailboxOf = ({ local, domain }: Mailbox, constraint: string): boolean => {
  const exact = constraint.includes('@') ? parseMailbox(constraint) : undefined;
  return exact === undefined
    ? isWithinDomain(domain, constraint)
    : exact.local === local && lower(exact.domain) === domain;
};

/** Every name is within one of the permitted ones, where there are any, and within none of the excluded. */
const areAllowed = <Named, Constraint>(
  names: readonly Named[],
  permitted: readonly Constraint[],
  excluded: readonly Constraint[],
  isWithin: (name: Named, constraint: Constraint) => boolean,
  isAlsoExcluded: (name: Named, constraint: Constraint) => boolean = () => false,
): boolean =>
  names.every(
    (name) =>
      (permitted.length === 0 || permitted.some((constraint) => isWithin(name, constraint))) &&
      !excluded.some((constraint) => isWithin(name, constraint) || isAlsoExcluded(name, constraint)),
  );

/** The host of a URI authority without its port; `undefined` for an address, which cannot be constrained. */
const constrainedHost = (authority: string): string | undefined => {
  const host = lower(authority);
  const name = host.includes(':') && !host.endsWith(']') ? /^([^:[\]]*):[^:]*$/.exec(host)?.[1] : host;
  return name === undefined || name === '' || name.startsWith('[') || isIP(name) !== 0 ? undefined : name;
};

/** `undefined` when a name is one that cannot be compared with constraints. */
const checkedNames = ({ alternativeNames }: Certificate): CheckedNames | undefined => {
  const { dns = [], ips = [], uris = [], emails = [] } = alternativeNames ?? {};
  const hosts = uris.map(({ host }) => constrainedHost(textOf(host)));
  const mailboxes = emails.map((email) => {
    const mailbox = parseMailbox(email);
    return mailbox === undefined ? undefined : { local: mailbox.local, domain: lower(mailbox.domain) };
  });
  if (!dns.every((name) => isDomain(name, false))) return undefined;
  if (hosts.includes(undefined) || mailboxes.includes(undefined)) return undefined;
  return {
    dns,
    ips,
    hosts: hosts.filter((host) => host !== undefined),
    mailboxes: mailboxes.filter((mailbox) => mailbox !== undefined),
  };
};

/** What comparisons may cost: characters of names times constraints. */
export interface Budget {
  left: number;
}

/** About a second of comparisons; certificates in use need less than a millionth. */
export const comparisonBudget = (): Budget => ({ left: 200_000_000 });

const countOf = ({ dns, ips, uris, emails }: Subtrees): number => dns.length + ips.length + uris.length + emails.length;

const sizeOf = ({ dns, ips, hosts, mailboxes }: CheckedNames): number =>
  [...dns, ...hosts, ...mailboxes.map(({ domain }) => domain)].join(' ').length + 16 * ips.length;

const meets = (names: CheckedNames, authority: Certificate, budget: Budget): boolean => {
  const constraints = authority.nameConstraints;
  if (constraints === undefined) return true;
  const { permitted, excluded } = constraints;
  budget.left -= sizeOf(names) * (countOf(permitted) + countOf(excluded));
  if (budget.left < 0) throw new BuiltinHalt('more name constraints than are compared here');
  return (
    areAllowed(names.ips, permitted.ips, excluded.ips, isWithinRange) &&
    areAllowed(names.dns, permitted.dns, excluded.dns, isWithinDomain, isExcludedWildcard) &&
    areAllowed(names.hosts, permitted.uris, excluded.uris, isWithinDomain, isExcludedWildcard) &&
    areAllowed(names.mailboxes, permitted.emails, excluded.emails, isMailboxOf, isExcludedMailbox)
  );
};

/** Whether the names of each certificate of a chain (leaf first) meet the constraints of all above it. */
export const areNamesAllowed = (chain: readonly Certificate[], budget: Budget): boolean =>
  chain.every((certificate, index) => {
    const above = chain.slice(index + 1).filter(({ nameConstraints }) => nameConstraints !== undefined);
    if (above.length === 0 || certificate.alternativeNames === undefined) return true;
    const names = checkedNames(certificate);
    return names !== undefined && above.every((authority) => meets(names, authority, budget));
  });
