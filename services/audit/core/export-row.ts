import { hex } from '../../shared/contracts/bytes.ts';
import type { FoundDecision } from './query-reader.ts';
import { showDecision, type ShownDecision } from './query-show.ts';
import type { NameSubject } from './pseudonym.ts';
import { parseObject } from './verify-event.ts';

/** A decision as it is exported. */
export interface ExportRow {
  readonly shown: ShownDecision;
  /** Hex; null when the entry is missing. */
  readonly leaf: string | null;
  /** The event's bytes, which are a JSON object; undefined when they cannot be read. */
  readonly event: Uint8Array | undefined;
}

/** `signedSize`: as `showDecision` takes it. */
export const exportRow = (
  tenant: string,
  found: FoundDecision,
  nameSubject: NameSubject,
  signedSize: bigint,
): ExportRow => {
  const bytes = found.payload.state === 'opened' ? found.payload.payload : undefined;
  return {
    shown: showDecision(tenant, found, nameSubject, signedSize),
    leaf: found.leaf === undefined ? null : hex(found.leaf),
    event: bytes === undefined || parseObject(bytes) === undefined ? undefined : bytes,
  };
};

/** A list as JSON: no separator that a member could hold. */
const list = (values: readonly string[] | undefined): string | undefined =>
  values === undefined || values.length === 0 ? undefined : JSON.stringify(values);

/** The columns of the flat formats (CSV, Parquet), in order. Lists are JSON. */
export const EXPORT_COLUMNS = {
  decision_id: ({ shown }) => shown.decision_id,
  event_time: ({ shown }) => shown.event_time,
  ingest_time: ({ shown }) => shown.ingest_time,
  decision: ({ shown }) => shown.decision,
  subject_issuer: ({ shown }) => shown.subject?.issuer,
  subject_type: ({ shown }) => shown.subject?.type,
  subject_id: ({ shown }) => shown.subject?.id,
  chain: ({ shown }) => list(shown.chain),
  agent: ({ shown }) => shown.agent,
  action: ({ shown }) => shown.action,
  resource_type: ({ shown }) => shown.resource.type,
  resource_id: ({ shown }) => shown.resource.id,
  reasons: ({ shown }) => list(shown.reasons.map(({ code }) => code)),
  rules: ({ shown }) => list(shown.reasons.flatMap(({ rule }) => (rule === undefined ? [] : [rule]))),
  obligations: ({ shown }) => list(shown.obligations?.map(({ type }) => type)),
  purpose: ({ shown }) => shown.purpose,
  session: ({ shown }) => shown.session,
  request_id: ({ shown }) => shown.request_id,
  caller: ({ shown }) => shown.caller,
  log: ({ shown }) => shown.log,
  seq: ({ shown }) => shown.seq,
  leaf: ({ leaf }) => leaf ?? undefined,
  read_from: ({ shown }) => shown.read_from,
  search_mismatch: ({ shown }) => list(shown.search_mismatch),
} as const satisfies Readonly<Record<string, (row: ExportRow) => string | undefined>>;
