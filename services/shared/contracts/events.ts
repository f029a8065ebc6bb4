import { verifyEd25519, signEd25519, publicKeyFromRaw, emitterId, type SigningKey } from './signatures.ts';
import { canonicalJson, isObject } from './json.ts';
import type { ArtifactPart } from './artifact.ts';
import { lp } from './bytes.ts';
import type { DecisionAnswer, Durability, PolicyIdentity } from './decision.ts';
import type { PolicyInput } from './policy-io.ts';

/** The content type of every event, exactly; part of what the ledger commits to. */
export const EVENT_CONTENT_TYPE = 'application/cloudevents+json';
export const DECISIONS_TOPIC = 'edict.decisions.v1';
export const ACKS_TOPIC = 'edict.acks.v1';
/** Pushed data: key = tenant, so one partition a tenant; the offset there is the data revision. */
export const DATA_TOPIC = 'edict.data.v1';

export const EVENT_TYPES = [
  'edict.decision.v1',
  'edict.refusals.v1',
  'edict.heartbeat.v1',
  'edict.start.v1',
  'edict.activation.v1',
  'edict.artifact.v1',
  'edict.fulfilment.v1',
  'edict.lost.v1',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** Where an event stands in its emitter's stream for one tenant. Counters are decimal strings of a u64. */
export interface EmitterPosition {
  /** 32 hex digits. */
  readonly id: string;
  readonly boot: string;
  readonly sequence: string;
  /** Hex SHA-256 of the bytes of the previous event of this tenant and boot; zeros at sequence 1. */
  readonly previous: string;
}

/** What every event carries. */
export interface EventData {
  readonly schema_version: 1;
  /** 16 random bytes in hex that stand nowhere else: no digest of the event lets anybody guess it. */
  readonly nonce: string;
  readonly tenant: string;
  readonly emitter: EmitterPosition;
  /** How many refusals could not be written at all since the previous event of this tenant. */
  readonly suppressed?: number;
}

/** CloudEvents 1.0, structured mode. */
export interface CloudEvent<Type extends EventType, Data extends EventData> {
  readonly specversion: '1.0';
  /** A UUIDv7; for a decision, the decision id. */
  readonly id: string;
  /** The emitter's id. */
  readonly source: string;
  readonly type: Type;
  /** RFC 3339, UTC, milliseconds. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  readonly data: Data;
}

/** Stands for a value that `pdp.mask` covers: hex HMAC-SHA256 of its RFC 8785 bytes under the key `key`. */
export interface Masked {
  readonly masked: string;
  readonly key: string;
}

/** Stands for what made an event too large: hex HMAC-SHA256 of its JSON bytes, and how many they were. */
export interface Omitted {
  readonly omitted: string;
  readonly bytes: number;
}

export interface TokenFacts {
  readonly issuer: string;
  readonly subject: string;
  readonly token_id?: string;
  readonly actors: readonly string[];
}

export interface Evaluation {
  readonly engine: string;
  readonly entrypoint: string;
  /** The policy's clock, nanoseconds since 1970 as decimal text. */
  readonly time_ns: string;
  readonly seed: string | null;
  /** Steps that the evaluation might take, and took; null when the engine itself failed. */
  readonly fuel_limit: number | null;
  readonly fuel_used: number | null;
  readonly memo: boolean;
  readonly nondeterministic: Readonly<Record<string, unknown>>;
  /** False when masking or omission removed something that the policy may have read. */
  readonly replayable: boolean;
}

export interface PolicyUsed extends PolicyIdentity {
  /** `sha256:` and the digest of the set of active bundles. */
  readonly set: string;
}

export interface DecisionData extends EventData {
  readonly caller: { readonly id: string };
  readonly request_id?: string;
  /** The policy input, masked as `pdp.mask` says. */
  readonly input: PolicyInput | Omitted;
  readonly tokens: readonly TokenFacts[];
  /** The answer without `audit` and `session_token`. */
  readonly answer: Omit<DecisionAnswer, 'audit'>;
  /** Set when the policy could not answer: the fault's code. The caller got 500. */
  readonly fault?: string;
  readonly evaluation: Evaluation;
  readonly policy: PolicyUsed;
  /** The configured level. */
  readonly durability: Durability;
  readonly duration_us: number;
  readonly trace?: { readonly traceparent: string };
  /** Stands for the answer that made the event too large; `answer` is then the deny in its place. */
  readonly output?: Omitted;
}

/** Refusals of one caller in one second, by code. */
export interface RefusalsData extends EventData {
  readonly caller: { readonly id: string };
  readonly from: string;
  readonly to: string;
  readonly refusals: readonly {
    readonly code: string;
    readonly status: number;
    readonly count: number;
    readonly largest_bytes: number;
    /** Hex HMAC-SHA256 of the first refused body; absent when no body was read. */
    readonly first_body?: string;
  }[];
}

export interface RecoveredStream {
  readonly boot: string;
  /** The last number of that boot and tenant, and the hex SHA-256 of that event's bytes. */
  readonly sequence: string;
  readonly digest: string;
}

export interface HeartbeatData extends EventData {
  readonly state: 'active' | 'idle' | 'final';
  /** Earlier boots of this tenant that are not acknowledged to their end. */
  readonly recovered?: readonly RecoveredStream[];
  readonly signature: string;
}

export interface StartData extends EventData {
  /** Base64 of the raw 32-byte Ed25519 key. */
  readonly public_key: string;
  readonly software: string;
  readonly signature: string;
}

export interface ActivationData extends EventData {
  readonly policy: PolicyUsed;
}

/** One part of the bytes that an activation names by digest. Each is sent once by an emitter, in parts. */
export interface ArtifactData extends EventData {
  readonly artifact: ArtifactPart;
  /** The part's bytes, base64. */
  readonly content: string;
}

/** Numbers of a boot of this tenant that nothing can bring any more: neither spool nor broker has them. */
export interface LostData extends EventData {
  readonly lost: readonly { readonly boot: string; readonly from: string; readonly to: string }[];
  readonly reason: string;
}

export type EdictEvent =
  | CloudEvent<'edict.decision.v1', DecisionData>
  | CloudEvent<'edict.refusals.v1', RefusalsData>
  | CloudEvent<'edict.heartbeat.v1', HeartbeatData>
  | CloudEvent<'edict.start.v1', StartData>
  | CloudEvent<'edict.activation.v1', ActivationData>
  | CloudEvent<'edict.artifact.v1', ArtifactData>
  | CloudEvent<'edict.lost.v1', LostData>;

/** The headers of an event's Kafka message, and what a spool record says beside the event's bytes. */
export interface EventHeaders {
  readonly emitter: string;
  readonly boot: string;
  readonly tenant: string;
  readonly sequence: string;
}

const SIGNATURE_DOMAIN = Buffer.from('edict/emitter/v1\0', 'utf8');

/** What an emitter signs: the domain, then lp(RFC 8785 bytes of the event without `data.signature`). */
const signedBytes = (event: { readonly data: object }): Buffer => {
  const { signature: _signature, ...data } = event.data as Readonly<Record<string, unknown>>;
  return Buffer.concat([SIGNATURE_DOMAIN, lp(canonicalJson({ ...event, data }))]);
};

/** The value of `data.signature` of a start, heartbeat or final event: base64 of the Ed25519 signature. */
export const signEvent = (key: SigningKey, event: { readonly data: object }): string =>
  signEd25519(key, signedBytes(event)).toString('base64');

/** True when `data.signature` was made by the key `publicKey` (raw, 32 bytes). Takes any parsed JSON. */
export const isEventSignedBy = (event: unknown, publicKey: Uint8Array): boolean => {
  if (!isObject(event) || !isObject(event['data'])) return false;
  const { signature } = event['data'];
  if (typeof signature !== 'string') return false;
  try {
    return verifyEd25519(
      publicKeyFromRaw(publicKey),
      signedBytes({ ...event, data: event['data'] }),
      Buffer.from(signature, 'base64'),
    );
  } catch {
    return false;
  }
};

/** The public key of a start event that is signed by it and whose source is its emitter id, else undefined. */
export const attestedKey = (event: unknown): Buffer | undefined => {
  if (!isObject(event) || event['type'] !== 'edict.start.v1' || !isObject(event['data'])) return undefined;
  const { public_key: publicKey } = event['data'];
  if (typeof publicKey !== 'string') return undefined;
  const raw = Buffer.from(publicKey, 'base64');
  return raw.length === 32 && emitterId(raw) === event['source'] && isEventSignedBy(event, raw) ? raw : undefined;
};
