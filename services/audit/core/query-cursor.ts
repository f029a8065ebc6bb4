import { createHmac, timingSafeEqual } from 'node:crypto';
import { lp } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { canonicalJson } from '../../shared/contracts/json.ts';
import type { DecisionFilter } from './query.ts';

/** Where the next page begins: entries of `logId` before `beforeSeq`, then those of earlier logs. */
export interface Cursor {
  readonly logId: number;
  readonly beforeSeq: bigint;
  /** The size of the tenant's newest log when the first page was asked for. */
  readonly asOfSize: bigint;
}

/** What a cursor is good for, and for nothing else. */
export interface CursorScope {
  readonly tenant: string;
  readonly caller: string;
  readonly filter: DecisionFilter;
}

const DOMAIN = Buffer.from('edict/cursor/v1\0', 'utf8');
const BODY_BYTES = 4 + 8 + 8;
const MAC_BYTES = 32;

const macOf = (key: Uint8Array, { tenant, caller, filter }: CursorScope, body: Uint8Array): Buffer =>
  createHmac('sha256', key)
    .update(DOMAIN)
    .update(lp(tenant))
    .update(lp(caller))
    .update(lp(canonicalJson(filter)))
    .update(body)
    .digest();

export const writeCursor = (key: Uint8Array, scope: CursorScope, cursor: Cursor): string => {
  const body = Buffer.allocUnsafe(BODY_BYTES);
  body.writeUInt32BE(cursor.logId, 0);
  body.writeBigUInt64BE(cursor.beforeSeq, 4);
  body.writeBigUInt64BE(cursor.asOfSize, 12);
  return Buffer.concat([body, macOf(key, scope, body)]).toString('base64url');
};

/** Throws `request_invalid` when the cursor was not given to this caller for this filter. */
export const readCursor = (key: Uint8Array, scope: CursorScope, text: string): Cursor => {
  const refuse = (): AppError =>
    new AppError('request_invalid', 'cursor: not one that this caller got for this filter', {
      details: { parameter: 'cursor' },
    });
  if (!/^[A-Za-z0-9_-]{70}$/.test(text)) throw refuse();
  const bytes = Buffer.from(text, 'base64url');
  const body = bytes.subarray(0, BODY_BYTES);
  const mac = bytes.subarray(BODY_BYTES);
  if (mac.length !== MAC_BYTES || !timingSafeEqual(mac, macOf(key, scope, body))) throw refuse();
  return { logId: body.readUInt32BE(0), beforeSeq: body.readBigUInt64BE(4), asOfSize: body.readBigUInt64BE(12) };
};
