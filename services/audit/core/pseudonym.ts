import { createHmac, hkdfSync } from 'node:crypto';
import { lp } from '../../shared/contracts/bytes.ts';
import type { DataSubject } from './append.ts';

/** A tenant's 32-byte key for `purpose`: HKDF-SHA256 (RFC 5869) of the master key, empty salt, info = purpose ‖ tenant. */
export const tenantKey = (masterKey: Uint8Array, purpose: string, tenant: string): Buffer =>
  Buffer.from(hkdfSync('sha256', masterKey, new Uint8Array(0), `${purpose}${tenant}`, 32));

const nameSubject = (key: Uint8Array, { issuer, type, id }: DataSubject): Buffer =>
  createHmac('sha256', key).update(lp(issuer)).update(lp(type)).update(lp(id)).digest();

/** HMAC-SHA256(HKDF(master, purpose ‖ tenant), lp(issuer) ‖ lp(type) ‖ lp(id)): 32 bytes. */
export type NameSubject = (tenant: string, subject: DataSubject) => Buffer;

/** Tenants whose derived keys, and subjects whose names, are kept. */
const MAX_TENANTS = 1_024;
const MAX_NAMES = 20_000;

const createNames = (masterKey: Uint8Array, purpose: string): NameSubject => {
  const keys = new Map<string, Buffer>();
  /** The same few subjects come again and again, and an HMAC costs more than a look-up. */
  const names = new Map<string, Buffer>();
  return (tenant, subject) => {
    const id = JSON.stringify([tenant, subject.issuer, subject.type, subject.id]);
    const known = names.get(id);
    if (known !== undefined) return known;
    let key = keys.get(tenant);
    if (key === undefined) {
      if (keys.size >= MAX_TENANTS) keys.clear();
      key = tenantKey(masterKey, purpose, tenant);
      keys.set(tenant, key);
    }
    const name = nameSubject(key, subject);
    if (names.size >= MAX_NAMES) names.clear();
    names.set(id, name);
    return name;
  };
};

/** The pseudonyms that stand in the search table (`decision.subject`). */
export const createSearchNames = (masterKey: Uint8Array): NameSubject => createNames(masterKey, 'edict/search/v1');

/** The names under which the key store keeps subjects: not those of the search table, so the two cannot be joined. */
export const createKeyNames = (masterKey: Uint8Array): NameSubject => createNames(masterKey, 'edict/subject/v1');

/** What a key store remembers of its master key, to notice another one: HMAC-SHA256(master, "edict/master/v1\0"). */
export const masterKeyName = (masterKey: Uint8Array): Buffer =>
  createHmac('sha256', masterKey).update('edict/master/v1\0').digest();
