import { createHmac, timingSafeEqual } from 'node:crypto';
import { lp } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import type { DecisionFilter, DecisionOrder } from './query.ts';

/** A place in a tenant's logs. */
export interface Place {
  readonly logId: number;
  readonly seq: bigint;
}

/** Where the next page begins, and how far the ledger went when the first page was asked for. */
export interface Cursor {
  /** The last entry of the page before. */
  readonly after: Place;
  /** The tenant's newest log then, and its size: what came later is on no page. */
  readonly asOf: { readonly logId: number; readonly size: bigint };
}

/** What a cursor is good for, and for nothing else. */
export interface CursorScope {
  readonly tenant: string;
  readonly caller: string;
  readonly filter: DecisionFilter;
  readonly order: DecisionOrder;
}

const DOMAIN = Buffer.from('edict/cursor/v2\0', 'utf8');
const PLACE_BYTES = 4 + 8;
const BODY_BYTES = 2 * PLACE_BYTES;
const MAC_BYTES = 32;
const FORMAT = new RegExp(`^[A-Za-z0-9_-]{${Math.ceil(((BODY_BYTES + MAC_BYTES) * 4) / 3)}}$`);

const macOf = (key: Uint8Array, { tenant, caller, filter, order }: CursorScope, body: Uint8Array): Buffer =>
  createHmac('sha256', key)
    .update(DOMAIN)
    .update(lp(tenant))
    .update(lp(caller))
    .update(lp(canonicalJson({ filter, order })))
    .update(body)
    .digest();

export const writeCursor = (key: Uint8Array, scope: CursorScope, { after, asOf }: Cursor): string => {
  const body = Buffer.allocUnsafe(BODY_BYTES);
  body.writeUInt32BE(after.logId, 0);
  body.writeBigUInt64BE(after.seq, 4);
  body.writeUInt32BE(asOf.logId, PLACE_BYTES);
  body.writeBigUInt64BE(asOf.size, PLACE_BYTES + 4);
  return Buffer.concat([body, macOf(key, scope, body)]).toString('base64url');
};

/** Throws `request_invalid` when the cursor was not given to this caller for this filter in this order. */
export const readCursor = (key: Uint8Array, scope: CursorScope, text: string): Cursor => {
  const refuse = (): AppError =>
    new AppError('request_invalid', 'cursor: not one that this caller got for this filter', {
      details: { parameter: 'cursor' },
    });
  if (!FORMAT.test(text)) throw refuse();
  const bytes = Buffer.from(text, 'base64url');
  const body = bytes.subarray(0, BODY_BYTES);
  const mac = bytes.subarray(BODY_BYTES);
  if (mac.length !== MAC_BYTES || !timingSafeEqual(mac, macOf(key, scope, body))) throw refuse();
  return {
    after: { logId: body.readUInt32BE(0), seq: body.readBigUInt64BE(4) },
    asOf: { logId: body.readUInt32BE(PLACE_BYTES), size: body.readBigUInt64BE(PLACE_BYTES + 4) },
  };
};
