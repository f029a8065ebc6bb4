import { isIPv6 } from 'node:net';
import { BuiltinError } from './builtin.ts';
import { goText } from './go-json.ts';

/** A parsed URL reference with the parts of Go's `net/url`. Texts are byte strings: each character is a byte. */
export interface GoUrl {
  readonly scheme: string;
  readonly opaque: string;
  /** Escaped user information; `undefined` when there is none. */
  readonly user: string | undefined;
  readonly host: string;
  readonly path: string;
  readonly rawPath: string;
  readonly omitHost: boolean;
  readonly forceQuery: boolean;
  readonly rawQuery: string;
  readonly fragment: string;
  readonly rawFragment: string;
}

/** For each part of a URL, the bytes that are escaped in it. */
const ESCAPED = {
  path: /[^A-Za-z0-9\-_.~$&+,/:;=@]/g,
  user: /[^A-Za-z0-9\-_.~$&+,;=]/g,
  fragment: /[^A-Za-z0-9\-_.~$&+,/:;=?@!()*]/g,
  host: /[^A-Za-z0-9\-_.~!$&'()*+,;=:[\]<>"]/g,
} as const;
const HOST_REFUSED = /[^A-Za-z0-9\-_.~!$&'()*+,;=:[\]<>"%\u0080-\u00ff]/;

const fail = (why: string): never => {
  throw new BuiltinError(`malformed URL: ${why}`);
};

const escape = (bytes: string, part: keyof typeof ESCAPED): string =>
  bytes.replaceAll(ESCAPED[part], (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

const unescape = (text: string): string => {
  if (/%(?![\da-fA-F]{2})/.test(text)) return fail('escape');
  return text.replaceAll(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
};

/** In a host only bytes beyond ASCII, and `%` itself, may be escaped. */
const unescapeHost = (text: string): string => {
  if (HOST_REFUSED.test(text) || /%(?!25)[0-7]/.test(text)) return fail('host');
  return unescape(text);
};

/** In a zone, what a host may hold unescaped may be escaped too, and the space. */
const unescapeZone = (text: string): string => {
  if (HOST_REFUSED.test(text)) return fail('host');
  for (const [sequence] of text.matchAll(/%[\da-fA-F]{2}/g)) {
    const byte = unescape(sequence);
    if (byte !== '%' && byte !== ' ' && escape(byte, 'host') !== byte) return fail('host');
  }
  return unescape(text);
};

const isPort = (text: string): boolean => /^(?::\d*)?$/.test(text);

const bracketedHost = (host: string): string => {
  const close = host.lastIndexOf(']');
  if (close === -1) return fail('host');
  const port = host.slice(close + 1);
  if (!isPort(port)) return fail('port');
  const name = host.slice(1, close);
  const zone = name.indexOf('%25');
  const unescaped =
    zone === -1 ? unescapeHost(name) : unescapeHost(name.slice(0, zone)) + unescapeZone(name.slice(zone));
  const [address = '', ...zones] = unescaped.split('%');
  if (!isIPv6(address) || (zones.length > 0 && zones.join('%') === '')) return fail('host');
  return `[${unescaped}]${port}`;
};

const parseHost = (scheme: string, host: string): string => {
  const open = host.lastIndexOf('[');
  if (open > 0) return fail('host');
  if (open === 0) return bracketedHost(host);
  const first = host.indexOf(':');
  // Only the schemes of the web refuse a second colon.
  const colon = scheme === 'http' || scheme === 'https' ? first : host.lastIndexOf(':');
  if (first !== -1 && !isPort(host.slice(colon))) return fail('port');
  return unescapeHost(host);
};

const parseUser = (text: string): string => {
  if (!/^[A-Za-z0-9\-._:~!$&'()*+,;=%@]*$/.test(text)) return fail('user');
  const colon = text.indexOf(':');
  if (colon === -1) return escape(unescape(text), 'user');
  return `${escape(unescape(text.slice(0, colon)), 'user')}:${escape(unescape(text.slice(colon + 1)), 'user')}`;
};

const cut = (text: string, at: number): [string, string] =>
  at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];

const EMPTY: GoUrl = {
  scheme: '',
  opaque: '',
  user: undefined,
  host: '',
  path: '',
  rawPath: '',
  omitHost: false,
  forceQuery: false,
  rawQuery: '',
  fragment: '',
  rawFragment: '',
};

/** Parses a URL reference as Go's `url.Parse` does: it is not normalised. Throws `BuiltinError`. */
export const parseGoUrl = (text: Buffer): GoUrl => {
  const bytes = text.toString('latin1');
  const [reference, escapedFragment] = cut(bytes, bytes.indexOf('#'));
  const url = parseReference(reference);
  const fragment = unescape(escapedFragment);
  const rawFragment = escape(fragment, 'fragment') === escapedFragment ? '' : escapedFragment;
  return { ...url, fragment, rawFragment };
};

const parseReference = (reference: string): GoUrl => {
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(reference)) return fail('control character');
  if (reference === '*') return { ...EMPTY, path: '*' };
  if (reference.startsWith(':')) return fail('no scheme');
  const scheme = (/^[a-zA-Z][a-zA-Z0-9+.-]*(?=:)/.exec(reference)?.[0] ?? '').toLowerCase();
  const afterScheme = scheme === '' ? reference : reference.slice(scheme.length + 1);
  const query = afterScheme.indexOf('?');
  const forceQuery = query !== -1 && query === afterScheme.length - 1;
  const [rest, rawQuery] = cut(afterScheme, query);
  const base = { ...EMPTY, scheme, forceQuery, rawQuery };
  if (!rest.startsWith('/')) {
    if (scheme !== '') return { ...base, opaque: rest };
    if (cut(rest, rest.indexOf('/'))[0].includes(':')) return fail('colon in the first segment');
  }
  const hasAuthority = rest.startsWith('//') && (scheme !== '' || !rest.startsWith('///'));
  if (!hasAuthority) return { ...base, ...parsePath(rest), omitHost: scheme !== '' && rest.startsWith('/') };
  const slash = rest.indexOf('/', 2);
  const authority = slash === -1 ? rest.slice(2) : rest.slice(2, slash);
  const at = authority.lastIndexOf('@');
  const host = parseHost(scheme, authority.slice(at + 1));
  const user = at === -1 ? undefined : parseUser(authority.slice(0, at));
  return { ...base, ...parsePath(slash === -1 ? '' : rest.slice(slash)), user, host };
};

const parsePath = (text: string): Pick<GoUrl, 'path' | 'rawPath'> => {
  const path = unescape(text);
  return { path, rawPath: escape(path, 'path') === text ? '' : text };
};

/** Whether Go takes the text that was given for the part, rather than escape its value anew. */
const isKept = (raw: string, part: 'path' | 'fragment'): boolean => {
  const others = raw.replaceAll(/[!$&'()*+,;=:@[\]%]/g, '');
  return raw !== '' && escape(others, part) === others;
};

export const escapedPath = ({ path, rawPath }: GoUrl): string => {
  if (isKept(rawPath, 'path')) return rawPath;
  return path === '*' ? '*' : escape(path, 'path');
};

const escapedFragment = ({ fragment, rawFragment }: GoUrl): string =>
  isKept(rawFragment, 'fragment') ? rawFragment : escape(fragment, 'fragment');

const hierarchy = (url: GoUrl): string => {
  const hasAuthority = url.scheme !== '' || url.host !== '' || url.user !== undefined;
  const isOmitted = url.omitHost && url.host === '' && url.user === undefined;
  const path = escapedPath(url);
  let text = '';
  if (hasAuthority && !isOmitted) {
    if (url.host !== '' || url.path !== '' || url.user !== undefined) text += '//';
    if (url.user !== undefined) text += `${url.user}@`;
    text += escape(url.host, 'host');
  }
  if (path !== '' && !path.startsWith('/') && url.host !== '') text += '/';
  const isAmbiguous = url.scheme === '' && text === '' && cut(path, path.indexOf('/'))[0].includes(':');
  return isAmbiguous ? `./${path}` : text + path;
};

/** The URL as Go's `String` writes it, as bytes. */
export const printGoUrl = (url: GoUrl): string => {
  const scheme = url.scheme === '' ? '' : `${url.scheme}:`;
  const query = url.forceQuery || url.rawQuery !== '' ? `?${url.rawQuery}` : '';
  const fragment = url.fragment === '' ? '' : `#${escapedFragment(url)}`;
  return scheme + (url.opaque === '' ? hierarchy(url) : url.opaque) + query + fragment;
};

/** The text of a byte string. */
export const textOf = (bytes: string): string => goText(Buffer.from(bytes, 'latin1'));
