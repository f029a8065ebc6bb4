import { randomBytes } from 'node:crypto';
import { ZERO_DIGEST } from '../../shared/contracts/bytes.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { NewEntry } from './append.ts';
import { OWN_CONTENT_TYPE, type EntryKind } from './entry.ts';
import { tenantSubject } from './ingest-search.ts';
import type { SourceMessage } from './ingest-source.ts';

const ZERO_EMITTER = '0'.repeat(32);

/** What is drawn anew for each entry that the audit service makes itself. */
export interface OwnIds {
  /** A UUIDv7. */
  readonly newId: () => string;
  /** 32 hex digits of randomness. */
  readonly nonce: () => string;
}

/** `nowMs`: the time in the ids; default: that of the moment in which each is made. */
export const freshIds = (nowMs?: number): OwnIds => ({
  newId: () => newUuidV7(nowMs),
  nonce: () => randomBytes(16).toString('hex'),
});

/**
 * An entry that the audit service makes itself: P = RFC 8785 bytes of `document` and a nonce, no emitter, no policy.
 * `from`: where the message lay that it wraps.
 */
export const ownEntry = (
  tenant: string,
  kind: EntryKind,
  document: Readonly<Record<string, unknown>>,
  ids: OwnIds,
  from: Pick<SourceMessage, 'topic' | 'partition' | 'offset'> = { topic: '', partition: 0, offset: 0n },
): NewEntry => ({
  kind,
  eventId: ids.newId(),
  topic: from.topic,
  partition: from.partition,
  offset: from.offset,
  emitter: ZERO_EMITTER,
  boot: 0n,
  emitterSeq: 0n,
  policySetDigest: ZERO_DIGEST,
  contentType: OWN_CONTENT_TYPE,
  payload: Buffer.from(canonicalJson({ ...document, nonce: ids.nonce() }), 'utf8'),
  subject: tenantSubject(tenant),
});
