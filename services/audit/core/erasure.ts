import { lp, sha256 } from '../../shared/contracts/bytes.ts';
import type { DataSubject } from './append.ts';
import type { EntryKind } from './entry.ts';

/** pending → approved → entered → done; or it ends before the second approval. */
export type ErasureState = 'pending' | 'approved' | 'entered' | 'done' | 'expired' | 'withdrawn';

/** What may name people beside its data subject; what proves the log itself is not among it. */
export const ERASABLE: readonly EntryKind[] = [
  'decision',
  'quarantine',
  'conflict',
  'access',
  'fulfilment',
  'refusals',
];
export const APPROVALS = 2;
/** Requests of one tenant that wait or are worked on. */
export const MAX_OPEN_ERASURES = 100;
/** Single entries of one request. */
export const MAX_ENTRIES = 1_000;
/** Ranges in one erasure entry; more become several entries of one transaction. */
export const MAX_RANGES = 10_000;

/** A single entry that is erased because it names somebody who is not its data subject. */
export interface ErasedEntry {
  readonly log: string;
  readonly seq: string;
  readonly event_id: string;
}

/** One request and how far it is. */
export interface Erasure {
  readonly id: string;
  readonly tenant: string;
  readonly state: ErasureState;
  /** Hex digest of its reference: `requestDigest`. */
  readonly request: string;
  readonly legalBasis: string;
  /** Null once it has ended, and where single entries are erased. */
  readonly subject: DataSubject | null;
  /** Hex name of the subject in the key store; null where single entries are erased. */
  readonly key: string | null;
  readonly entries: readonly ErasedEntry[];
  /** Copies outside the ledger whose keepers are to be told. */
  readonly copies: readonly string[];
  readonly requestedBy: string;
  readonly requestedUs: bigint;
  readonly expiresUs: bigint;
  readonly approvals: readonly { readonly by: string; readonly us: string }[];
  /** False: the approvers' names are only what somebody called himself. */
  readonly authenticated: boolean;
  /** Where its erasure entries are, once they are. */
  readonly logId: number | null;
  readonly firstSeq: bigint | null;
  readonly lastSeq: bigint | null;
  readonly erased: bigint | null;
  readonly endedUs: bigint | null;
}

export interface ErasureRequest {
  readonly scope:
    { readonly subject: DataSubject } | { readonly decisions: readonly string[]; readonly seqs: readonly bigint[] };
  /** Under which the request lies with whoever handles requests; only its digest is kept. */
  readonly reference: string;
  readonly legalBasis: string;
  readonly copies: readonly string[];
}

/** Who asks or approves. */
export interface Approver {
  readonly name: string;
  readonly isAuthenticated: boolean;
}

/** Beside a request: what it waits for, for people. */
export type ErasureStatus = Erasure & { readonly log: string | null; readonly waitsFor: string | null };

/**
 * Requests for erasure. All reject with `not_found` for an id that the tenant does not have, and with `state_conflict`
 * where the request cannot do this now.
 */
export interface Erasures {
  readonly request: (tenant: string, by: Approver, request: ErasureRequest) => Promise<ErasureStatus>;
  readonly approve: (tenant: string, id: string, by: Approver) => Promise<ErasureStatus>;
  readonly withdraw: (tenant: string, id: string) => Promise<ErasureStatus>;
  readonly get: (tenant: string, id: string) => Promise<ErasureStatus>;
  /** The newest 1,000. */
  readonly list: (tenant: string) => Promise<readonly ErasureStatus[]>;
}

/** H("edict/erasure-request/v1\0" ‖ lp(tenant) ‖ lp(reference)). */
export const requestDigest = (tenant: string, reference: string): Buffer =>
  sha256('edict/erasure-request/v1\0', lp(tenant), lp(reference));

type Range = readonly [from: string, to: string];

/** Ascending seqs as inclusive ranges. */
export const seqRanges = (seqs: readonly bigint[]): readonly Range[] => {
  const ranges: [bigint, bigint][] = [];
  for (const seq of seqs) {
    const last = ranges.at(-1);
    if (last?.[1] === seq - 1n) last[1] = seq;
    else ranges.push([seq, seq]);
  }
  return ranges.map(([from, to]) => [String(from), String(to)]);
};

/**
 * The payloads of the erasure entries of one request: one, or more where it names more than `MAX_RANGES` ranges.
 * `found`: by origin the seqs that lose their payload; `own`: the log that gets the entries.
 */
export const erasureDocuments = (
  erasure: Erasure,
  own: string,
  found: ReadonlyMap<string, readonly bigint[]>,
): readonly Readonly<Record<string, unknown>>[] => {
  const all = [...found].flatMap(([log, seqs]) => seqRanges(seqs).map((range) => ({ log, range })));
  const parts = Math.max(1, Math.ceil(all.length / MAX_RANGES));
  return Array.from({ length: parts }, (_, part) => {
    const ofPart = all.slice(part * MAX_RANGES, (part + 1) * MAX_RANGES);
    const rangesOf = (origin: string): readonly Range[] =>
      ofPart.filter(({ log }) => log === origin).map(({ range }) => range);
    const earlier = [...found.keys()]
      .filter((log) => log !== own)
      .map((log) => ({ log, ranges: rangesOf(log) }))
      .filter(({ ranges }) => ranges.length > 0);
    return {
      reason: 'request',
      erasure: erasure.id,
      tenant: erasure.tenant,
      request: erasure.request,
      legal_basis: erasure.legalBasis,
      approvers: erasure.approvals.map(({ by }) => by),
      approved: erasure.approvals.map(({ by, us }) => ({ by, at_us: us })),
      authenticated: erasure.authenticated,
      scope: erasure.key === null ? 'entries' : 'subject',
      ...(erasure.key === null ? {} : { key: erasure.key }),
      ranges: rangesOf(own),
      ...(earlier.length === 0 ? {} : { earlier }),
      copies: erasure.copies,
      part: String(part + 1),
      parts: String(parts),
    };
  });
};
