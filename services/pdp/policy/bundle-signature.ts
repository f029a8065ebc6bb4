import { createHash, type KeyObject } from 'node:crypto';
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { SIGNATURES_PATH, type BundleFile } from '../../shared/contracts/bundle-digest.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { SignatureAlgorithm } from '../../shared/contracts/signature-algorithms.ts';
import { isSignedBy, signBytes, type BundleKey } from './bundle-keys.ts';
import { canonicalJsonBytes } from './canonical-document.ts';

/** What the settings ask of the bundles of one source. */
export interface SigningRequirement {
  /** Keys that may sign, by id. */
  readonly keys: ReadonlyMap<string, BundleKey>;
  /** The one key that decides, whatever the token's `kid`. */
  readonly keyId: string | undefined;
  /** What the token's `scope` must be; undefined: that of the key, else none. */
  readonly scope: string | undefined;
}

export interface VerifiedSignature {
  readonly key: string;
  readonly algorithm: SignatureAlgorithm;
  readonly scope: string;
}

/** Node's names of OPA's digest algorithms (OPA, v1/bundle/hash.go). */
const DIGESTS: ReadonlyMap<string, string> = new Map([
  ['MD5', 'md5'],
  ['SHA-1', 'sha1'],
  ['SHA-224', 'sha224'],
  ['SHA-256', 'sha256'],
  ['SHA-384', 'sha384'],
  ['SHA-512', 'sha512'],
  ['SHA-512-224', 'sha512-224'],
  ['SHA-512-256', 'sha512-256'],
]);

const FILES_MAX = 4096;
const TOKEN_MAX_BYTES = 4 * 1024 * 1024;

const SignedFiles = Type.Object({
  files: Type.Array(
    Type.Object({
      name: Type.String({ minLength: 1, maxLength: 1024 }),
      hash: Type.String({ pattern: '^([0-9a-fA-F]{2}){16,64}$' }),
      algorithm: Type.String({ maxLength: 16 }),
    }),
    { maxItems: FILES_MAX },
  ),
  keyid: Type.Optional(Type.String()),
  scope: Type.Optional(Type.String()),
});
type SignedFiles = Static<typeof SignedFiles>;

const filesCheck = Compile(SignedFiles);

const refuse = (message: string, cause?: unknown): AppError =>
  new AppError('bundle_invalid', `signature: ${message}`, { cause });

const readJson = (bytes: Uint8Array, what: string): Readonly<Record<string, unknown>> => {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw refuse(`${what} is not UTF-8 JSON`, cause);
  }
  if (!isObject(value)) throw refuse(`${what} is not a JSON object`);
  return value;
};

/** The one token of `.signatures.json`. */
const readToken = ({ bytes }: BundleFile): string => {
  if (bytes.length > TOKEN_MAX_BYTES) throw refuse(`${SIGNATURES_PATH} has more than ${TOKEN_MAX_BYTES} bytes`);
  const { signatures, plugin } = readJson(bytes, SIGNATURES_PATH);
  if (plugin !== undefined && plugin !== '' && plugin !== '_default')
    throw refuse(`${SIGNATURES_PATH} asks for the plugin ${JSON.stringify(plugin)}; there are no plugins here`);
  const tokens: readonly unknown[] = Array.isArray(signatures) ? signatures : [];
  const [token] = tokens;
  if (tokens.length !== 1 || typeof token !== 'string')
    throw refuse(`${SIGNATURES_PATH} holds ${tokens.length} signatures, exactly one is expected`);
  return token;
};

interface Token {
  readonly header: Readonly<Record<string, unknown>>;
  readonly claims: SignedFiles;
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

/** RFC 7515, compact form. Nothing of it is believed yet. */
const parseToken = (token: string): Token => {
  const parts = token.split('.', 4);
  const [header, payload, signature] = parts;
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined)
    throw refuse('the token does not have three parts');
  if (!parts.every((part) => /^[A-Za-z0-9_-]*$/.test(part))) throw refuse('the token is not base64url');
  const claims = readJson(Buffer.from(payload, 'base64url'), 'the payload');
  if (!filesCheck.Check(claims)) {
    const [fault] = filesCheck.Errors(claims);
    throw refuse(`the payload is no list of files: ${fault?.instancePath || '/'} ${fault?.message ?? ''}`);
  }
  // OPA does not look at these; to ignore a term of validity would be worse than to refuse it.
  for (const term of ['exp', 'nbf'])
    if (term in claims) throw refuse(`the payload has ${term}: a bundle's expiry stands in its .manifest`);
  return {
    header: readJson(Buffer.from(header, 'base64url'), 'the header'),
    claims,
    signed: Buffer.from(`${header}.${payload}`, 'latin1'),
    signature: Buffer.from(signature, 'base64url'),
  };
};

/** As in OPA: the configured key, else the one that `kid` names, else the one that the claim `keyid` names. */
const chooseKey = ({ header, claims }: Token, { keys, keyId }: SigningRequirement): BundleKey => {
  const { kid } = header;
  if (kid !== undefined && typeof kid !== 'string') throw refuse('kid is no text');
  const id = keyId ?? (kid === undefined || kid === '' ? claims.keyid : kid);
  if (id === undefined || id === '') throw refuse('no key is configured for this source, and the token names none');
  const key = keys.get(id);
  if (key === undefined) throw refuse(`the key ${JSON.stringify(id.slice(0, 100))} is not one of this source`);
  return key;
};

const isStructured = (path: string): boolean => /(^|\/)(data\.json|\.manifest)$/.test(path);

const isDigestOf = (digest: string, expected: string, { path, bytes }: BundleFile): boolean => {
  const hash = (content: Uint8Array): string => createHash(digest).update(content).digest('hex');
  // What has the digest already is the canonical text itself: most files need no parsing.
  if (hash(bytes) === expected) return true;
  return isStructured(path) && hash(canonicalJsonBytes(path, bytes)) === expected;
};

/** Every file but the signature is listed with its digest, and nothing else is. */
const checkFiles = (files: readonly BundleFile[], { files: listed }: SignedFiles): void => {
  const open = new Map(listed.map((file) => [file.name, file]));
  if (open.size !== listed.length) throw refuse('a file is listed twice');
  for (const file of files) {
    if (file.path === SIGNATURES_PATH) continue;
    const entry = open.get(file.path);
    if (entry === undefined) throw refuse(`${file.path} is not signed`);
    const digest = DIGESTS.get(entry.algorithm);
    if (digest === undefined) throw refuse(`${file.path} is listed with an unknown digest algorithm`);
    if (!isDigestOf(digest, entry.hash.toLowerCase(), file))
      throw refuse(`${file.path} is not the file that was signed`);
    open.delete(file.path);
  }
  const [missing] = open.keys();
  if (missing !== undefined) throw refuse(`${JSON.stringify(missing)} was signed and is not in the bundle`);
};

/**
 * Verifies `.signatures.json` as OPA does, and stricter: exactly one token, signed with a key and algorithm of the
 * settings, of the demanded scope, over exactly the files that are there. Throws `bundle_invalid` that says why not.
 */
export const verifySignature = (files: readonly BundleFile[], requirement: SigningRequirement): VerifiedSignature => {
  const file = files.find(({ path }) => path === SIGNATURES_PATH);
  if (file === undefined) throw refuse(`there is no ${SIGNATURES_PATH}, and this source must be signed`);
  const token = parseToken(readToken(file));
  const key = chooseKey(token, requirement);
  if (token.header['alg'] !== key.algorithm) {
    const said = JSON.stringify(token.header['alg'] ?? null).slice(0, 50);
    throw refuse(`the key ${key.id} is for ${key.algorithm}, the token says ${said}`);
  }
  // RFC 7515, 4.1.11: an extension that is not understood makes the token invalid.
  if ('crit' in token.header) throw refuse('the header has crit: no extension is understood here');
  if (!isSignedBy(key, token.signed, token.signature)) throw refuse(`the token is not signed by the key ${key.id}`);
  const { scope: found = '' } = token.claims;
  const scope = requirement.scope ?? key.scope ?? '';
  if (found !== scope) throw refuse(`the scope is ${JSON.stringify(found)}, not ${JSON.stringify(scope)}`);
  checkFiles(files, token.claims);
  return { key: key.id, algorithm: key.algorithm, scope };
};

export interface Signer {
  readonly keyId: string;
  readonly algorithm: SignatureAlgorithm;
  readonly key: KeyObject;
  readonly scope?: string;
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value), 'utf8').toString('base64url');

/** `.signatures.json` over all files, as `opa build --signing-key` writes it. Throws `bundle_invalid` on bad JSON. */
export const signFiles = (files: readonly BundleFile[], signer: Signer): BundleFile => {
  const { keyId, algorithm, key, scope } = signer;
  const listed = files
    .filter(({ path }) => path !== SIGNATURES_PATH)
    .map(({ path, bytes }) => {
      const content = isStructured(path) ? canonicalJsonBytes(path, bytes) : bytes;
      return { name: path, hash: createHash('sha256').update(content).digest('hex'), algorithm: 'SHA-256' };
    });
  const header = encode({ alg: algorithm, kid: keyId, typ: 'JWT' });
  const payload = encode({ files: listed, keyid: keyId, ...(scope === undefined ? {} : { scope }) });
  const signed = `${header}.${payload}`;
  const signature = signBytes(key, algorithm, Buffer.from(signed, 'latin1')).toString('base64url');
  const document = { signatures: [`${signed}.${signature}`], plugin: '_default' };
  return { path: SIGNATURES_PATH, bytes: Buffer.from(JSON.stringify(document), 'utf8') };
};

/** What a token says of itself, unverified; undefined when the bundle is not signed. For people to look at. */
export const describeSignature = (
  files: readonly BundleFile[],
): { readonly kid: unknown; readonly alg: unknown; readonly scope: string; readonly files: number } | undefined => {
  const file = files.find(({ path }) => path === SIGNATURES_PATH);
  if (file === undefined) return undefined;
  const { header, claims } = parseToken(readToken(file));
  return {
    kid: header['kid'] ?? claims.keyid ?? null,
    alg: header['alg'] ?? null,
    scope: claims.scope ?? '',
    files: claims.files.length,
  };
};
