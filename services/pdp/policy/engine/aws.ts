import { createHash, createHmac } from 'node:crypto';
import { type Builtin, BuiltinError, type Builtins, boundedText, flag, object, text } from './builtin.ts';
import { writeGoJson } from './go-json.ts';
import { escapedPath, type GoUrl, parseGoUrl, textOf } from './go-url.ts';
import { int64 } from './int64.ts';
import { compareStrings, RegoObject, type Value } from './value.ts';

/** What a request of `http.send` may hold; the same check stands before its signature. */
const REQUEST_MEMBERS: ReadonlySet<Value> = new Set(
  [
    'method url body enable_redirect force_json_decode force_yaml_decode headers raw_body tls_use_system_certs',
    'tls_ca_cert tls_ca_cert_file tls_ca_cert_env_variable tls_client_cert tls_client_cert_file',
    'tls_client_cert_env_variable tls_client_key tls_client_key_file tls_client_key_env_variable',
    'tls_insecure_skip_verify tls_server_name timeout cache force_cache force_cache_duration_seconds',
    'raise_error caching_mode max_retry_attempts cache_ignored_headers',
  ].flatMap((names) => names.split(' ')),
);

/** Proxies change them on the way. */
const UNSIGNED_HEADERS: ReadonlySet<string> = new Set(['authorization', 'user-agent', 'x-amzn-trace-id']);

interface Credentials {
  readonly service: string;
  readonly region: string;
  readonly accessKey: string;
  readonly secretKey: string;
  /** Empty for credentials that do not expire. */
  readonly sessionToken: string;
  /** The body is then no part of the signature. */
  readonly isBodyUnsigned: boolean;
}

const stringOr = (value: Value | undefined): string => (typeof value === 'string' ? value : '');

const readCredentials = (config: RegoObject): Credentials => {
  const unsigned = config.get('disable_payload_signing');
  return {
    service: text(config.get('aws_service')),
    region: text(config.get('aws_region')),
    accessKey: text(config.get('aws_access_key')),
    secretKey: text(config.get('aws_secret_access_key')),
    sessionToken: stringOr(config.get('aws_session_token')),
    isBodyUnsigned: unsigned !== undefined && flag(unsigned),
  };
};

/** The raw body before the other one; anything but text is an empty one. */
const bodyOf = (request: RegoObject): string => {
  const [raw, body] = [request.get('raw_body'), request.get('body')];
  if (raw !== undefined) return stringOr(raw);
  return body === undefined ? '' : boundedText(writeGoJson(body));
};

const headersOf = (request: RegoObject): ReadonlyMap<string, string> => {
  const headers = request.get('headers');
  if (headers === undefined) return new Map();
  return new Map(object(headers).entries.map(([name, value]) => [stringOr(name), stringOr(value)]));
};

/** Nanoseconds since 1970 as `20060102T150405Z`. */
const timestamp = (ns: bigint): string => {
  // Rounded down, before 1970 too.
  const seconds = (ns - (((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n;
  return new Date(Number(seconds) * 1000).toISOString().replaceAll(/[-:]|\.\d+/g, '');
};

const sha256 = (message: string): string => createHash('sha256').update(message).digest('hex');
const hmac = (key: string | Buffer, message: string): Buffer => createHmac('sha256', key).update(message).digest();

interface Signed {
  readonly authorization: string;
  /** Headers that the service needs beside it. */
  readonly headers: Readonly<Record<string, string>>;
}

const sign = (
  { method, url, headers, body }: { method: string; url: GoUrl; headers: ReadonlyMap<string, string>; body: string },
  credentials: Credentials,
  time: string,
): Signed => {
  const { service, region, accessKey, secretKey, sessionToken, isBodyUnsigned } = credentials;
  const date = time.slice(0, 8);
  const bodyHash = isBodyUnsigned ? 'UNSIGNED-PAYLOAD' : sha256(body);
  const own = {
    host: textOf(url.host),
    'x-amz-date': time,
    ...(service === 's3' || service === 'glacier' ? { 'x-amz-content-sha256': bodyHash } : {}),
    ...(sessionToken === '' ? {} : { 'x-amz-security-token': sessionToken }),
  };
  const signed = new Map<string, string>(Object.entries(own));
  for (const [name, value] of headers)
    if (!UNSIGNED_HEADERS.has(name.toLowerCase())) signed.set(name.toLowerCase(), value);
  const lines = [...signed].sort(([a], [b]) => compareStrings(a, b));
  const names = lines.map(([name]) => name).join(';');
  const canonical = [
    method,
    escapedPath(url),
    textOf(url.rawQuery),
    ...lines.map(([name, value]) => `${name}:${value}`),
    '',
    names,
    bodyHash,
  ].join('\n');
  const scope = `${date}/${region}/${service}/aws4_request`;
  const key = [region, service, 'aws4_request'].reduce(hmac, hmac(`AWS4${secretKey}`, date));
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${sha256(canonical)}`).toString('hex');
  const credential = `Credential=${accessKey}/${scope}`;
  const authorization = `AWS4-HMAC-SHA256 ${credential},SignedHeaders=${names},Signature=${signature}`;
  return { authorization, headers: own };
};

/** Adds the headers of AWS Signature Version 4 to a request, at the given time. */
const signRequest: Builtin = (_, requestValue, configValue, timeValue) => {
  const request = object(requestValue);
  const credentials = readCredentials(object(configValue));
  const time = timestamp(int64(timeValue));
  if (!request.entries.every(([name]) => REQUEST_MEMBERS.has(name))) throw new BuiltinError('an unknown member');
  const [method, address] = [text(request.get('method')), text(request.get('url'))];
  const url = parseGoUrl(Buffer.from(address));
  const headers = headersOf(request);
  const signed = sign({ method, url, headers, body: bodyOf(request) }, credentials, time);
  const all = [...headers, ['Authorization', signed.authorization] as const, ...Object.entries(signed.headers)];
  return RegoObject.of([...request.entries, ['headers', RegoObject.of(all)]]);
};

export const awsBuiltins: Builtins = { 'providers.aws.sign_req': signRequest };
