import { BuiltinError, type Builtins, text } from './builtin.ts';
import { goText } from './go-bytes.ts';
import { parseIp } from './ip-address.ts';
import { RegoObject, type Value } from './value.ts';

const fail = (why: string): never => {
  throw new BuiltinError(why);
};

const HOST_CHARACTER = /[A-Za-z0-9!"$&'()*+,\-.:;<=>[\]_~]/;
const PATH_CHARACTER = /[A-Za-z0-9$&+,\-./:;=@_~]/;

const checkHost = (value: string): void => {
  for (const character of value)
    if (character !== '%' && character < '\u0080' && !HOST_CHARACTER.test(character)) fail('a character of no host');
};

const checkEscape = (byte: number, mode: 'host' | 'zone'): void => {
  if (byte === 0x25) return;
  // Only what could not be written itself may be escaped in a host.
  if (mode === 'host' && byte < 0x80) fail('an escape that a host does not allow');
  const isPlain = byte < 0x80 && HOST_CHARACTER.test(String.fromCharCode(byte));
  if (mode === 'zone' && byte !== 0x20 && !isPlain) fail('an escape that a zone does not allow');
};

/**
 * Replaces `%XX` (RFC 3986), and `+` by a blank in a query. Throws `BuiltinError` on an incomplete escape, and on what
 * Go's `net/url` refuses in a host.
 */
export const percentDecode = (
  value: string,
  mode: 'query' | 'path' | 'fragment' | 'user' | 'host' | 'zone',
): string => {
  const isHost = mode === 'host' || mode === 'zone';
  if (isHost) checkHost(value);
  const plain = mode === 'query' ? value.replaceAll('+', ' ') : value;
  if (!plain.includes('%')) return plain;
  const bytes = Buffer.from(plain, 'utf8');
  let length = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    let byte = bytes[at] ?? 0;
    if (byte === 0x25) {
      const digits = bytes.toString('latin1', at + 1, at + 3);
      if (!/^[0-9a-fA-F]{2}$/.test(digits)) fail('an incomplete escape');
      byte = parseInt(digits, 16);
      if (isHost) checkEscape(byte, mode);
      at += 2;
    }
    bytes[length] = byte;
    length += 1;
  }
  return goText(bytes.subarray(0, length));
};

const cut = (value: string, separator: string): readonly [before: string, after: string] => {
  const at = value.indexOf(separator);
  return at < 0 ? [value, ''] : [value.slice(0, at), value.slice(at + separator.length)];
};

const isOptionalPort = (value: string): boolean => /^(?::[0-9]*)?$/.test(value);

const parseLiteral = (host: string): string => {
  const close = host.lastIndexOf(']');
  if (close < 0) fail('a bracket is not closed');
  const port = host.slice(close + 1);
  if (!isOptionalPort(port)) fail('a malformed port');
  const literal = host.slice(1, close);
  const zone = literal.indexOf('%25');
  const address =
    zone < 0
      ? percentDecode(literal, 'host')
      : percentDecode(literal.slice(0, zone), 'host') + percentDecode(literal.slice(zone), 'zone');
  if (parseIp(address)?.bits !== 128) fail('an IPv6 address expected');
  return `[${address}]${port}`;
};

const parseHost = (scheme: string, host: string): string => {
  const bracket = host.lastIndexOf('[');
  if (bracket > 0) fail('a bracket inside the host');
  if (bracket === 0) return parseLiteral(host);
  // Several colons are refused for HTTP alone: other schemes list hosts.
  const colon = scheme === 'http' || scheme === 'https' ? host.indexOf(':') : host.lastIndexOf(':');
  if (colon >= 0 && !isOptionalPort(host.slice(colon))) fail('a malformed port');
  return percentDecode(host, 'host');
};

const parseAuthority = (scheme: string, authority: string): string => {
  const at = authority.lastIndexOf('@');
  const host = parseHost(scheme, authority.slice(at + 1));
  if (at >= 0) {
    const user = authority.slice(0, at);
    if (!/^[A-Za-z0-9\-._:~!$&'()*+,;=%@]*$/.test(user)) fail('a malformed user');
    percentDecode(user, 'user');
  }
  return host;
};

/** Name and port; the name without brackets. */
const splitHost = (host: string): readonly [name: string, port: string] => {
  const colon = host.lastIndexOf(':');
  const hasPort = colon >= 0 && isOptionalPort(host.slice(colon));
  const name = hasPort ? host.slice(0, colon) : host;
  return [name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name, hasPort ? host.slice(colon + 1) : ''];
};

const splitScheme = (uri: string): readonly [scheme: string, rest: string] => {
  if (uri.startsWith(':')) fail('the scheme is missing');
  const [, scheme] = /^([A-Za-z][A-Za-z0-9+\-.]*):/.exec(uri) ?? [];
  return scheme === undefined ? ['', uri] : [scheme.toLowerCase(), uri.slice(scheme.length + 1)];
};

/** Whether the path is escaped as Go itself would: then it keeps no raw form, and OPA gives the decoded one twice. */
const isPlainlyEscaped = (path: string): boolean => {
  for (const [part, digits] of path.matchAll(/%([0-9A-F]{2})|[^]/g)) {
    const isAllowed = PATH_CHARACTER.test(digits === undefined ? part : String.fromCharCode(parseInt(digits, 16)));
    if (isAllowed === (digits !== undefined)) return false;
  }
  return true;
};

/** The parts that Go's `net/url` finds; throws `BuiltinError` when it refuses the text. */
const parseUri = (uri: string): Readonly<Record<string, string>> => {
  const [main, rawFragment] = cut(uri, '#');
  for (let i = 0; i < main.length; i += 1)
    if (main.charCodeAt(i) < 0x20 || main.charCodeAt(i) === 0x7f) fail('a control character');
  const fragment = percentDecode(rawFragment, 'fragment');
  if (main === '*') return { path: '*', raw_path: '*', fragment };
  const [scheme, behindScheme] = splitScheme(main);
  const [hierarchy, rawQuery] = cut(behindScheme, '?');
  if (!hierarchy.startsWith('/')) {
    if (scheme !== '') return { scheme, raw_query: rawQuery, fragment };
    if (cut(hierarchy, '/')[0].includes(':')) fail('a colon in the first segment of a path');
  }
  let host = '';
  let rawPath = hierarchy;
  if (hierarchy.startsWith('//') && (scheme !== '' || !hierarchy.startsWith('///'))) {
    const slash = hierarchy.indexOf('/', 2);
    host = parseAuthority(scheme, hierarchy.slice(2, slash < 0 ? undefined : slash));
    rawPath = slash < 0 ? '' : hierarchy.slice(slash);
  }
  const [hostname, port] = splitHost(host);
  const path = percentDecode(rawPath, 'path');
  return {
    scheme,
    hostname,
    port,
    path,
    raw_path: isPlainlyEscaped(rawPath) ? path : rawPath,
    raw_query: rawQuery,
    fragment,
  };
};

const parsed = (uri: string): Value => RegoObject.of(Object.entries(parseUri(uri)).filter(([, part]) => part !== ''));

const isValid = (uri: string): boolean => {
  try {
    parseUri(uri);
    return true;
  } catch (error) {
    if (error instanceof BuiltinError) return false;
    throw error;
  }
};

export const uriBuiltins: Builtins = {
  'uri.parse': (_context, uri) => parsed(text(uri)),
  'uri.is_valid': (_context, uri) => typeof uri === 'string' && uri !== '' && isValid(uri),
};
