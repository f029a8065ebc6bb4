import { hash as digest, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';
import type { Caller, Settings } from '../settings/schema.ts';
import { tenantNames } from '../settings/settings.ts';

/*
 * An API key is `edict_<id>_<secret>`: 12 characters that name it and 43 of base64url that hold 256 random bits.
 * Settings hold `<id>$sha256$<salt>$<hash>` with hash = SHA-256(salt ‖ the 43 characters). One round of a fast hash is
 * enough, other than for a password: nobody can try out 2^256 secrets, however fast each trial is.
 */
const ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
const ID_LENGTH = 12;
const SALT_BYTES = 16;
const SECRET_BYTES = 32;
const CREDENTIAL = /^Bearer +edict_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/i;
const STORED = /^([a-z0-9]{12})\$sha256\$([A-Za-z0-9_-]{22,64})\$([A-Za-z0-9_-]{43})$/;

export interface NewApiKey {
  /** Shown once; stands nowhere afterwards. */
  readonly key: string;
  /** For `callers.*.api_keys`. */
  readonly stored: string;
}

const saltedHash = (salt: Uint8Array, secret: string): Buffer =>
  digest('sha256', Buffer.concat([salt, Buffer.from(secret, 'latin1')]), 'buffer');

export const newApiKey = (): NewApiKey => {
  const id = Array.from({ length: ID_LENGTH }, () => ID_ALPHABET[randomInt(ID_ALPHABET.length)]).join('');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  const salt = randomBytes(SALT_BYTES);
  const hash = saltedHash(salt, secret);
  return {
    key: `edict_${id}_${secret}`,
    stored: `${id}$sha256$${salt.toString('base64url')}$${hash.toString('base64url')}`,
  };
};

interface KnownKey {
  readonly salt: Buffer;
  readonly hash: Buffer;
  readonly caller: Caller | undefined;
}

const knownKey = (stored: string, caller: Caller): readonly [string, KnownKey] | undefined => {
  const [, id, salt, hash] = STORED.exec(stored) ?? [];
  if (id === undefined || salt === undefined || hash === undefined) return undefined;
  return [id, { salt: Buffer.from(salt, 'base64url'), hash: Buffer.from(hash, 'base64url'), caller }];
};

/** The caller whose key the `Authorization` header holds; undefined when there is none. Never throws. */
export type Authenticate = (authorization: string | undefined) => Caller | undefined;

/** An unknown key id costs the same hash and comparison as a wrong secret. */
export const createAuthenticate = (callers: readonly Caller[]): Authenticate => {
  const keys = new Map(
    callers.flatMap((caller) =>
      caller.api_keys.map((stored) => knownKey(stored, caller)).filter((entry) => entry !== undefined),
    ),
  );
  const nobody: KnownKey = { salt: randomBytes(SALT_BYTES), hash: randomBytes(32), caller: undefined };
  return (authorization) => {
    if (authorization === undefined || authorization.length > 256) return undefined;
    const [, id, secret] = CREDENTIAL.exec(authorization) ?? [];
    if (id === undefined || secret === undefined) return undefined;
    const { salt, hash, caller } = keys.get(id) ?? nobody;
    return timingSafeEqual(saltedHash(salt, secret), hash) ? caller : undefined;
  };
};

/**
 * Who asks on a loopback listener while `callers` is empty: everything of the first tenant is theirs. Nobody knows who it
 * is, so what it states of parties is a claim.
 */
export const developmentCaller = (settings: Settings): Caller => ({
  id: 'development',
  tenant: tenantNames(settings)[0] ?? 'default',
  roles: ['decide', 'audit', 'operate', 'data', 'erase'],
  api_keys: [],
  requires_agent: false,
  believe_unverified: false,
  properties: {},
});
