import { isIP } from 'node:net';
import { Der, malformed, Tag } from './der.ts';
import { type GoUrl, parseGoUrl } from './go-url.ts';
import { ia5 } from './x509-names.ts';

/** The subject alternative names (RFC 5280, 4.2.1.6) of the four kinds that Go knows; others are skipped. */
export interface AlternativeNames {
  readonly dns: readonly string[];
  readonly emails: readonly string[];
  /** 4 or 16 bytes each. */
  readonly ips: readonly Buffer[];
  readonly uris: readonly GoUrl[];
}

export interface IpRange {
  readonly ip: Buffer;
  readonly mask: Buffer;
}

/** One side, permitted or excluded, of name constraints (RFC 5280, 4.2.1.10). */
export interface Subtrees {
  readonly dns: readonly string[];
  readonly emails: readonly string[];
  readonly ips: readonly IpRange[];
  readonly uris: readonly string[];
}

const EMAIL = Tag.context(1);
const DNS = Tag.context(2);
const URI = Tag.context(6);
const IP = Tag.context(7);

/** Labels of printable ASCII, none empty, no dot at the end; a constraint may start with one. Empty is valid. */
export const isDomain = (name: string, isConstraint: boolean): boolean => {
  const labels = isConstraint && name.startsWith('.') ? name.slice(1) : name;
  return name === '' || /^[!-\-/-~]+(?:\.[!-\-/-~]+)*$/.test(labels);
};

const readUri = (content: Buffer): GoUrl => {
  ia5(content);
  const url = parseGoUrl(content);
  return url.host === '' || isDomain(url.host, false) ? url : malformed('URI in a certificate');
};

export const readAlternativeNames = (value: Buffer): AlternativeNames => {
  const dns: string[] = [];
  const emails: string[] = [];
  const ips: Buffer[] = [];
  const uris: GoUrl[] = [];
  for (const names = new Der(value).enter(Tag.sequence); !names.empty;) {
    const { tag, content } = names.element();
    // Go looks at the number of the tag and at its class in one: constructed ones are skipped.
    if (tag === EMAIL) emails.push(ia5(content));
    if (tag === DNS) dns.push(ia5(content));
    if (tag === URI) uris.push(readUri(content));
    if (tag === IP) ips.push(content.length === 4 || content.length === 16 ? content : malformed('IP address'));
  }
  return { dns, emails, ips, uris };
};

export interface Mailbox {
  readonly local: string;
  readonly domain: string;
}

// The quoted and the plain local part of RFC 2821; a backslash takes the character after it.
const QUOTED =
  // oxlint-disable-next-line no-control-regex -- RFC 2822 allows them
  /^"((?:[\u0001-\u0008\u000b\u000c\u000e-\u001f !#-[\]-~\u007f]|\\[\u0001-\u0009\u000b\u000c\u000e-\u007f])*)"@/;
const PLAIN = /^((?:[0-9A-Za-z!#$%&'*+\-/=?^_`{|}~.]|\\[^])+)@/;

/** Splits an e-mail address (RFC 2821); `undefined` when it is none. */
export const parseMailbox = (text: string): Mailbox | undefined => {
  const isQuoted = text.startsWith('"');
  const [address, escaped] = (isQuoted ? QUOTED : PLAIN).exec(text) ?? [];
  if (address === undefined || escaped === undefined) return undefined;
  const local = escaped.replaceAll(/\\([^])/g, '$1');
  if (!isQuoted && (local.startsWith('.') || local.endsWith('.') || local.includes('..'))) return undefined;
  const domain = text.slice(address.length);
  return isDomain(domain, false) ? { local, domain } : undefined;
};

const isMask = (mask: Buffer): boolean =>
  /^1*0*$/.test([...mask].map((byte) => byte.toString(2).padStart(8, '0')).join(''));

const readIpRange = (content: Buffer): IpRange => {
  const half = content.length / 2;
  const [ip, mask] = [content.subarray(0, half), content.subarray(half)];
  return (half === 4 || half === 16) && isMask(mask) ? { ip, mask } : malformed('IP constraint');
};

const readDomain = (content: Buffer): string => {
  const domain = ia5(content);
  return isDomain(domain, true) ? domain : malformed('domain constraint');
};

const readEmail = (content: Buffer): string => {
  const email = ia5(content);
  if (!email.includes('@')) return readDomain(content);
  return parseMailbox(email) === undefined ? malformed('e-mail constraint') : email;
};

const readSubtrees = (content: Buffer): { subtrees: Subtrees; hasUnknown: boolean } => {
  const dns: string[] = [];
  const emails: string[] = [];
  const ips: IpRange[] = [];
  const uris: string[] = [];
  let hasUnknown = false;
  for (const trees = new Der(content); !trees.empty;) {
    const base = trees.enter(Tag.sequence).element();
    if (base.tag === DNS) dns.push(readDomain(base.content));
    else if (base.tag === IP) ips.push(readIpRange(base.content));
    else if (base.tag === EMAIL) emails.push(readEmail(base.content));
    else if (base.tag === URI) {
      const domain = readDomain(base.content);
      uris.push(isIP(domain) === 0 ? domain : malformed('URI constraint'));
    } else hasUnknown = true;
  }
  return { subtrees: { dns, emails, ips, uris }, hasUnknown };
};

export interface NameConstraints {
  readonly permitted: Subtrees;
  readonly excluded: Subtrees;
  /** Names of a kind that is not looked at here are constrained too. */
  readonly hasUnknown: boolean;
}

export const readNameConstraints = (value: Buffer): NameConstraints => {
  const outer = new Der(value);
  const inner = outer.enter(Tag.sequence);
  const permitted = inner.optional(Tag.constructed(0)) ?? Buffer.alloc(0);
  const excluded = inner.optional(Tag.constructed(1)) ?? Buffer.alloc(0);
  if (!outer.empty || !inner.empty || permitted.length + excluded.length === 0) return malformed('name constraints');
  const [left, right] = [readSubtrees(permitted), readSubtrees(excluded)];
  return {
    permitted: left.subtrees,
    excluded: right.subtrees,
    hasUnknown: left.hasUnknown || right.hasUnknown,
  };
};
