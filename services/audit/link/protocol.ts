import { deserialize, serialize } from 'node:v8';

/** The functions of the signer's stores that are called over the link. */
export const LINK_CALLS = [
  'logs',
  'rows',
  'store',
  'raise',
  'metaLog',
  'unlisted',
  'list',
  'leaves',
  'storeMeta',
  'metaHashes',
  'attest',
] as const;
export type LinkCall = (typeof LINK_CALLS)[number];

/** What the audit service writes to `home` for the signer: where it listens, and what proves that the file was read. */
export interface LinkFile {
  readonly url: string;
  /** 64 hex digits. */
  readonly token: string;
}

/** Bodies of either side; the first checkpoint of a long log brings a hash for every 255 entries. */
export const MAX_LINK_BYTES = 256 * 1024 * 1024;

/** Both ends are this program on one machine: bytes and big integers go as the engine writes them. */
export const encodeLink = (value: unknown): Buffer => serialize(value);
export const decodeLink = (bytes: Uint8Array): unknown => deserialize(bytes);
