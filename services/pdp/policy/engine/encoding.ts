import { BuiltinError, type Builtins, object, text } from './builtin.ts';
import { goText } from './go-bytes.ts';
import { goJson, jsonMembers } from './json-text.ts';
import { percentDecode } from './uri.ts';
import { integerOf, isArray, RegoObject, RegoSet, type Value } from './value.ts';

const hexDecode = (digits: string): string => {
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) throw new BuiltinError('hexadecimal digits expected');
  return goText(Buffer.from(digits, 'hex'));
};

/** Go's `url.QueryEscape`. */
export const queryEncode = (value: string): string =>
  encodeURIComponent(value).replace(/%20|[!'()*]/g, (part) =>
    part === '%20' ? '+' : `%${part.charCodeAt(0).toString(16).toUpperCase()}`,
  );

const queryValues = (value: Value): readonly string[] => {
  if (typeof value === 'string') return [value];
  if (value instanceof RegoSet) return value.items.map(text);
  if (value !== null && typeof value === 'object' && isArray(value)) return value.map(text);
  throw new BuiltinError('a string or strings expected');
};

const queryEncodeObject = (values: RegoObject): string =>
  jsonMembers(values)
    .entries.flatMap(([key, value]) =>
      queryValues(value).map((each) => `${queryEncode(text(key))}=${queryEncode(each)}`),
    )
    .join('&');

// As many as Go's `net/url` reads.
const MAX_PARAMETERS = 10_000;

const queryDecodeObject = (query: string): Value => {
  const parts = query.split('&', MAX_PARAMETERS + 1);
  if (parts.length > MAX_PARAMETERS) throw new BuiltinError('too many parameters');
  const values = new Map<string, string[]>();
  for (const part of parts) {
    if (part === '') continue;
    if (part.includes(';')) throw new BuiltinError('a semicolon separates nothing');
    const equals = part.indexOf('=');
    const key = percentDecode(equals < 0 ? part : part.slice(0, equals), 'query');
    const value = equals < 0 ? '' : percentDecode(part.slice(equals + 1), 'query');
    const list = values.get(key);
    if (list === undefined) values.set(key, [value]);
    else list.push(value);
  }
  return RegoObject.of(values);
};

/** `prefix` and `indent` ask for several lines, unless `pretty` says otherwise. */
const marshal = (value: Value | undefined, options: RegoObject): string => {
  if (value === undefined) throw new BuiltinError('a value expected');
  let prefix: string | undefined;
  let indent: string | undefined;
  let pretty: boolean | undefined;
  for (const [key, option] of options.entries) {
    if (key === 'prefix') prefix = text(option);
    else if (key === 'indent') indent = text(option);
    else if (key === 'pretty' && typeof option === 'boolean') pretty = option;
    else throw new BuiltinError('an unknown option');
  }
  const isPretty = pretty ?? (prefix !== undefined || indent !== undefined);
  if (!isPretty) return goJson(value);
  return (prefix ?? '') + goJson(value, { prefix: prefix ?? '', indent: indent ?? '\t' });
};

const UUID = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$/i;

/** The forms that OPA takes: plain, `urn:uuid:…`, without dashes, and between any two characters for braces. */
const uuidBytes = (uuid: string): Buffer | undefined => {
  let bare = uuid;
  if (/^[0-9a-f]{32}$/i.test(uuid)) return Buffer.from(uuid, 'hex');
  const length = Buffer.byteLength(uuid);
  if (length === 45 && /^urn:uuid:/i.test(uuid)) bare = uuid.slice(9);
  // OPA counts and cuts bytes.
  if (length === 38 && uuid.charCodeAt(0) < 0x80) bare = uuid.slice(1, 37);
  const digits = UUID.exec(bare)?.slice(1).join('');
  return digits === undefined ? undefined : Buffer.from(digits, 'hex');
};

const variantOf = (byte: number): string => {
  if ((byte & 0xc0) === 0x80) return 'RFC4122';
  if ((byte & 0xe0) === 0xc0) return 'Microsoft';
  return (byte & 0xe0) === 0xe0 ? 'Future' : 'Reserved';
};

const addressKind = (byte: number): string =>
  `${(byte & 2) === 0 ? 'global' : 'local'}:${(byte & 1) === 0 ? 'unicast' : 'multicast'}`;

// Between 1582-10-15 and 1970-01-01, in steps of 100 ns (RFC 9562, 5.1).
const GREGORIAN_OFFSET = 0x01b21dd213814000n;

const timeOf = (uuid: Buffer): bigint => {
  const high = BigInt(uuid.readUInt16BE(6) & 0xfff);
  const ticks = (high << 48n) | (BigInt(uuid.readUInt16BE(4)) << 32n) | BigInt(uuid.readUInt32BE(0));
  return BigInt.asIntN(64, (ticks - GREGORIAN_OFFSET) * 100n);
};

const DOMAINS: readonly string[] = ['Person', 'Group', 'Org'];

const parseUuid = (value: string): Value | undefined => {
  const uuid = uuidBytes(value);
  if (uuid === undefined) return undefined;
  const [version, variant, domain, node] = [(uuid[6] ?? 0) >> 4, uuid[8] ?? 0, uuid[9] ?? 0, uuid[10] ?? 0];
  const fields: (readonly [Value, Value])[] = [
    ['version', version],
    ['variant', variantOf(variant)],
  ];
  if (version === 1 || version === 2)
    fields.push(
      ['time', integerOf(timeOf(uuid))],
      ['nodeid', (uuid.toString('hex', 10).match(/../g) ?? []).join('-')],
      ['macvariables', addressKind(node)],
      ['clocksequence', uuid.readUInt16BE(8) & 0x3fff],
    );
  if (version === 2) fields.push(['id', uuid.readUInt32BE(0)], ['domain', DOMAINS[domain] ?? `Domain${domain}`]);
  return RegoObject.of(fields);
};

/** Version 4 (RFC 9562, 5.4). */
const randomUuid = (bytes: Uint8Array): string => {
  const uuid = Buffer.from(bytes);
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x40;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
};

export const encodingBuiltins: Builtins = {
  'base64url.encode_no_pad': (_context, value) => Buffer.from(text(value), 'utf8').toString('base64url'),
  'glob.quote_meta': (_context, pattern) => text(pattern).replace(/[*?\\[\]{}]/g, String.raw`\$&`),
  'hex.encode': (_context, value) => Buffer.from(text(value), 'utf8').toString('hex'),
  'hex.decode': (_context, digits) => hexDecode(text(digits)),
  'json.marshal_with_options': (_context, value, options) => marshal(value, object(options)),
  'urlquery.encode': (_context, value) => queryEncode(text(value)),
  'urlquery.decode': (_context, value) => percentDecode(text(value), 'query'),
  'urlquery.encode_object': (_context, values) => queryEncodeObject(object(values)),
  'urlquery.decode_object': (_context, query) => queryDecodeObject(text(query)),
  'uuid.parse': (_context, value) => parseUuid(text(value)),
  'uuid.rfc4122': (context) => randomUuid(context.randomBytes(16)),
};
