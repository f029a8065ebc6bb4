/** The verdicts of a verification. They are never folded into one: each answers another question. */
export const VERDICTS = [
  /** Are the signatures good, and is the log signed by its key? */
  'authenticity',
  /** Does the log still hold everything that somebody outside the database remembers of it? */
  'append_only',
  /** Does every stored byte fit its hash, its place and its neighbours? */
  'integrity',
  /** Do the search table and the state of the ingest say what the committed entries say? */
  'projection',
  /** Is everything there that the emitters numbered? */
  'completeness',
  /** Was every payload that is gone allowed to go? */
  'lifecycle',
  /** How old is the newest signed statement of the log? */
  'freshness',
  /** Do the ingest times only go forward? */
  'clock',
] as const;
export type VerdictName = (typeof VERDICTS)[number];

/** What somebody must have done for a finding to be there. */
export type AttackClass =
  | 'payload_edited'
  | 'payload_removed'
  | 'header_edited'
  | 'leaf_edited'
  | 'entry_removed'
  | 'entry_moved'
  | 'entry_inserted'
  | 'tail_truncated'
  | 'log_relabelled'
  | 'history_rewritten'
  | 'search_edited'
  | 'search_removed'
  | 'search_inserted'
  /** Tables from which duplicates are told and acknowledgements are made. */
  | 'state_edited'
  | 'emitter_gap'
  /** A note that the log's key did not sign, or not of this size and root. */
  | 'checkpoint_forged'
  | 'checkpoint_removed'
  | 'tile_edited'
  /** A seal counts other entries than there are. */
  | 'seal_wrong'
  | 'emitter_forged'
  | 'time_shifted'
  /** The file of an evidence bundle is not as it was written. */
  | 'bundle_edited';

/** One thing that is not as it must be. */
export interface Finding {
  /** The entry it concerns, decimal; null when it concerns the whole log. */
  readonly seq: string | null;
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
  readonly attack: AttackClass;
}

export interface Verdict {
  /** `not_checked`: neither good nor bad, `note` says why. */
  readonly status: 'ok' | 'failed' | 'not_checked';
  /** How much was looked at, by kind of thing. */
  readonly checked: Readonly<Record<string, number>>;
  readonly failures: number;
  /** The finding with the lowest seq. */
  readonly firstBad?: Finding;
  readonly note?: string;
}

/** What was found in one log. */
export interface VerificationReport {
  readonly tenant: string;
  readonly origin: string;
  /** How many entries the log has according to its head, decimal. Every verdict is as of this size. */
  readonly size: string;
  /** Hex leaf hash of the last entry: who keeps size and leaf can recognise this log again. Null when empty. */
  readonly lastLeaf: string | null;
  /** Hex RFC 6962 root over the leaves as they were computed from the stored headers. */
  readonly root: string;
  /**
   * The largest checkpoint whose signature is good and whose root the entries have: the note, for whoever holds the
   * log's verifier key. Null without one; absent in reports of older programs.
   */
  readonly checkpoint?: { readonly size: string; readonly note: string } | null;
  readonly startedAt: string;
  readonly endedAt: string;
  readonly verdicts: Readonly<Record<VerdictName, Verdict>>;
  /** The first findings, in the order of the log, at most `MAX_FINDINGS`. */
  readonly findings: readonly (Finding & { readonly verdict: VerdictName })[];
}

export const MAX_FINDINGS = 100;

export const hasFailed = (report: VerificationReport): boolean =>
  VERDICTS.some((name) => report.verdicts[name].status === 'failed');

/** Collects findings and counts while a log is read. */
export interface Findings {
  fail(verdict: VerdictName, finding: Finding): void;
  count(verdict: VerdictName, thing: string, amount?: number): void;
  /** The verdict as it stands: failed when anything failed, else `otherwise`. */
  verdict(name: VerdictName, otherwise: 'ok' | 'not_checked', note?: string): Verdict;
  list(): VerificationReport['findings'];
}

export const createFindings = (): Findings => {
  const failures = new Map<VerdictName, number>();
  const first = new Map<VerdictName, Finding>();
  const counts = new Map<VerdictName, Record<string, number>>();
  const all: (Finding & { readonly verdict: VerdictName })[] = [];
  const earlier = (a: Finding, b: Finding): boolean =>
    a.seq !== null && (b.seq === null || BigInt(a.seq) < BigInt(b.seq));
  return {
    fail(verdict, finding) {
      failures.set(verdict, (failures.get(verdict) ?? 0) + 1);
      const before = first.get(verdict);
      if (before === undefined || earlier(finding, before)) first.set(verdict, finding);
      if (all.length < MAX_FINDINGS) all.push({ verdict, ...finding });
    },
    count(verdict, thing, amount = 1) {
      const of = counts.get(verdict) ?? {};
      of[thing] = (of[thing] ?? 0) + amount;
      counts.set(verdict, of);
    },
    verdict(name, otherwise, note) {
      const failed = failures.get(name) ?? 0;
      const firstBad = first.get(name);
      return {
        status: failed > 0 ? 'failed' : otherwise,
        checked: counts.get(name) ?? {},
        failures: failed,
        ...(firstBad === undefined ? {} : { firstBad }),
        ...(note === undefined ? {} : { note }),
      };
    },
    list: () => [...all].sort((a, b) => (a === b ? 0 : earlier(a, b) ? -1 : earlier(b, a) ? 1 : 0)),
  };
};
