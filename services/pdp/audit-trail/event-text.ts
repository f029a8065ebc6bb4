import { signEvent, type EventType } from '../../shared/contracts/events.ts';
import { randomHex } from '../../shared/contracts/random-hex.ts';
import { rfc3339 } from '../../shared/contracts/rfc3339.ts';
import type { SigningKey } from '../../shared/contracts/signatures.ts';

/** What every event says about where it stands. */
export interface Position {
  readonly tenant: string;
  readonly emitter: string;
  readonly boot: string;
  readonly sequence: string;
  /** Hex SHA-256 of the previous event's bytes, or zeros. */
  readonly previous: string;
  /** Refusals of this tenant that could not be written since its previous event. */
  readonly suppressed: number;
}

export interface Head {
  readonly id: string;
  readonly type: EventType;
  readonly timeMs: number;
}

/** 16 bytes. */
const NONCE_DIGITS = 32;

/**
 * An event as JSON text. `members` is what follows in `data`, as JSON text without braces. Concatenation: the
 * members were serialised once already, and tenant, ids and counters need no escaping.
 */
export const eventText = (head: Head, at: Position, members: string): string =>
  `{"specversion":"1.0","id":"${head.id}","source":"${at.emitter}","type":"${head.type}",` +
  `"time":"${rfc3339(head.timeMs)}","datacontenttype":"application/json",` +
  `"data":{"schema_version":1,"nonce":"${randomHex(NONCE_DIGITS)}","tenant":"${at.tenant}",` +
  `"emitter":{"id":"${at.emitter}","boot":"${at.boot}","sequence":"${at.sequence}","previous":"${at.previous}"}` +
  `${at.suppressed > 0 ? `,"suppressed":${at.suppressed}` : ''}${members === '' ? '' : `,${members}`}}}`;

/** The same, with `data.signature` made by the emitter's key: for start, heartbeat and final events. */
export const signedEventText = (head: Head, at: Position, members: string, key: SigningKey): string => {
  const event = JSON.parse(eventText(head, at, members)) as { readonly data: object };
  return JSON.stringify({ ...event, data: { ...event.data, signature: signEvent(key, event) } });
};
