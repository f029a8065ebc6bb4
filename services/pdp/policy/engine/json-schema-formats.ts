import { isIPv4, isIPv6 } from 'node:net';
import { RE2JS } from 're2js';
import { matchesLayout } from './go-time.ts';
import { BuiltinHalt } from './builtin.ts';
import { patternSize } from './pattern-size.ts';
import { compileCost, matchCost, type Spend } from './prices.ts';

/** A pattern in RE2's syntax; undefined when it is none. */
export const compilePattern = (pattern: string, spend: Spend): ((text: string) => boolean) | undefined => {
  const size = patternSize(pattern);
  spend(compileCost(size));
  try {
    const compiled = RE2JS.compile(pattern);
    return (text) => {
      spend(matchCost(size, text.length));
      return compiled.matcher(text).find();
    };
  } catch {
    return undefined;
  }
};

/** What is read of a document's own patterns. */
const MAX_PATTERN_SIZE = 20_000;

const isPattern = (text: string, spend: Spend): boolean => {
  if (patternSize(text) > MAX_PATTERN_SIZE) throw new BuiltinHalt('a pattern that is too large');
  return compilePattern(text, spend) !== undefined;
};

const TIMES = ['15:04:05Z07:00', '15:04:05'] as const;
const DATE = '2006-01-02';
const DATE_TIMES = [...TIMES, DATE, '2006-01-02T15:04:05Z07:00'] as const;

const isOneOf = (layouts: readonly string[], text: string): boolean =>
  layouts.some((layout) => matchesLayout(layout, text));

const ATOM_CHARACTERS = "A-Za-z0-9!#$%&'*+/=?^_`{|}~\\u0080-\\u{10ffff}-";
const ATOM = `[${ATOM_CHARACTERS}]+`;
const QUOTED = '"(?:[^"\\\\\\r\\n]|\\\\[ -~])*"';
const ADDRESS = `(?:${ATOM}(?:\\.${ATOM})*|${QUOTED})@(?:${ATOM}(?:\\.${ATOM})*|\\[[\\d.:A-Fa-f]+\\])`;
const PLAIN_EMAIL = new RegExp(`^ *${ADDRESS} *$`, 'u');
const NAMED_EMAIL = new RegExp(`^[^<]*<${ADDRESS}> *$`, 'u');
const NAME = new RegExp(`^(?:[. ${ATOM_CHARACTERS}]|${QUOTED})*$`, 'u');

/** RFC 5322 addresses, with a name or without, as far as Go's net/mail reads them. */
const isEmail = (text: string): boolean =>
  PLAIN_EMAIL.test(text) || (NAMED_EMAIL.test(text) && NAME.test(text.slice(0, text.indexOf('<'))));

interface UrlParts {
  readonly scheme: string;
  readonly path: string;
}

/** What Go's `url.Parse` takes; undefined where it gives an error. */
const parseUrl = (text: string): UrlParts | undefined => {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return undefined;
  }
  const [beforeFragment = '', ...fragment] = text.split('#');
  if (/%(?![0-9A-Fa-f]{2})/.test(fragment.join('#'))) return undefined;
  if (beforeFragment.startsWith(':')) return undefined;
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(beforeFragment)?.[1] ?? '';
  const rest = (scheme === '' ? beforeFragment : beforeFragment.slice(scheme.length + 1)).replace(/\?.*$/s, '');
  if (scheme !== '' && !rest.startsWith('/')) return { scheme, path: '' };
  if (scheme === '' && /^[^/]*:/.test(rest)) return undefined;
  const [, authority, path = rest] = /^\/\/([^/]*)(.*)$/s.exec(rest) ?? [];
  if (/%(?![0-9A-Fa-f]{2})/.test(path)) return undefined;
  if (authority !== undefined) {
    const host = authority.slice(authority.lastIndexOf('@') + 1);
    const user = authority.slice(0, Math.max(authority.lastIndexOf('@'), 0));
    if (!/^[A-Za-z0-9\-._:~!$&'()*+,;=%@]*$/.test(user) || /%(?![0-9A-Fa-f]{2})/.test(user)) return undefined;
    const isHost = /^(?:\[[^\][]*\]|[^\][:\s<>"\\^`{|}%]*)(?::\d*)?$/.test(host);
    if (!isHost) return undefined;
  }
  return { scheme, path };
};

const HOSTNAME =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(?:\.(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?))*$/;
const UUID = /^[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$/i;
const POINTER = /^(?:\/(?:[^~/]|~[01])*)*$/;
const RELATIVE_POINTER = /^(?:0|[1-9][0-9]*)(?:#|(?:\/(?:[^~/]|~[01])*)*)$/;

/** Every opening brace is closed. */
const isTemplate = (path: string): boolean => {
  const [before = '', ...groups] = path.split('{');
  return !before.includes('{') && groups.every((group) => group.includes('}'));
};

const isUri = (text: string): boolean => {
  const url = parseUrl(text);
  return url !== undefined && url.scheme !== '' && !text.includes('\\');
};

const isUriReference = (text: string): boolean => parseUrl(text) !== undefined && !text.includes('\\');

const isUriTemplate = (text: string): boolean => {
  const url = parseUrl(text);
  return url !== undefined && !text.includes('\\') && isTemplate(url.path);
};

const isAddress = (text: string): boolean => isIPv4(text) || (isIPv6(text) && !text.includes('%'));

/** The formats that OPA checks, of strings; others are taken for granted. */
export const FORMATS: ReadonlyMap<string, (text: string, spend: Spend) => boolean> = new Map([
  ['date', (text) => matchesLayout(DATE, text)],
  ['time', (text) => isOneOf(TIMES, text)],
  ['date-time', (text) => isOneOf(DATE_TIMES, text)],
  ['hostname', (text) => text.length < 256 && HOSTNAME.test(text)],
  ['email', isEmail],
  ['idn-email', isEmail],
  ['ipv4', (text) => isAddress(text) && text.includes('.')],
  ['ipv6', (text) => isAddress(text) && text.includes(':')],
  ['uri', isUri],
  ['uri-reference', isUriReference],
  ['iri', isUri],
  ['iri-reference', isUriReference],
  ['uri-template', isUriTemplate],
  ['uuid', (text) => UUID.test(text)],
  ['regex', isPattern],
  ['json-pointer', (text) => POINTER.test(text)],
  ['relative-json-pointer', (text) => RELATIVE_POINTER.test(text)],
] as const);
