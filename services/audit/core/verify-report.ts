import type { Statement } from './verify-window.ts';

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

/**
 * What somebody must have done for a finding to be there, and the exit code of `edict audit verify` when nothing else
 * was found. Codes are never given to another class.
 */
export const ATTACKS = {
  payload_edited: 10,
  payload_removed: 11,
  header_edited: 12,
  leaf_edited: 13,
  entry_removed: 14,
  entry_moved: 15,
  entry_inserted: 16,
  tail_truncated: 17,
  log_relabelled: 18,
  history_rewritten: 19,
  search_edited: 20,
  search_removed: 21,
  search_inserted: 22,
  /** Tables from which duplicates are told and acknowledgements are made. */
  state_edited: 23,
  emitter_gap: 24,
  /** A note that the log's key did not sign, or not of this size and root. */
  checkpoint_forged: 25,
  checkpoint_removed: 26,
  tile_edited: 27,
  /** A seal counts other entries than there are. */
  seal_wrong: 28,
  emitter_forged: 29,
  time_shifted: 30,
  /** The file of an evidence bundle is not as it was written. */
  bundle_edited: 31,
  /** The database was restored from an older copy, and a newer incarnation says so. */
  log_rewound: 32,
} as const satisfies Readonly<Record<string, number>>;
export type AttackClass = keyof typeof ATTACKS;

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
  /**
   * The largest good checkpoint below the first bad entry; without one, or where nothing that has a place was found,
   * the largest good one. Null without any; absent in reports of older programs.
   */
  readonly lastGood?: { readonly size: string; readonly root: string } | null;
  /** How many findings there are of each class; absent in reports of older programs. */
  readonly attacks?: Readonly<Partial<Record<AttackClass, number>>>;
  /** Entries below were not read: an earlier verification had read them, and found this root. */
  readonly since?: { readonly size: string; readonly root: string; readonly verifiedAt: string };
  readonly startedAt: string;
  readonly endedAt: string;
  readonly verdicts: Readonly<Record<VerdictName, Verdict>>;
  /** What can be said of the time between two times, where somebody asked. */
  readonly statement?: Statement;
  /** The first findings, in the order of the log, at most `MAX_FINDINGS`. */
  readonly findings: readonly (Finding & { readonly verdict: VerdictName })[];
}

export const MAX_FINDINGS = 100;

/** The classes of what was found, with how often. */
const attacksOf = ({ attacks, findings }: VerificationReport): readonly AttackClass[] =>
  attacks === undefined ? findings.map(({ attack }) => attack) : (Object.keys(attacks) as AttackClass[]);

/** 0: no verdict failed; the code of the one class that was found; 1: several, or one that this program does not know. */
export const exitCodeOf = (reports: readonly VerificationReport[], others: readonly AttackClass[] = []): number => {
  const classes = new Set([...reports.filter(hasFailed).flatMap(attacksOf), ...others]);
  const [only] = classes;
  if (only === undefined) return reports.some(hasFailed) ? 1 : 0;
  return classes.size > 1 || !Object.hasOwn(ATTACKS, only) ? 1 : ATTACKS[only];
};

export const hasFailed = (report: VerificationReport): boolean =>
  VERDICTS.some((name) => report.verdicts[name].status === 'failed');

/** Collects findings and counts while a log is read. */
export interface Findings {
  fail(verdict: VerdictName, finding: Finding): void;
  count(verdict: VerdictName, thing: string, amount?: number): void;
  /** The verdict as it stands: failed when anything failed, else `otherwise`. */
  verdict(name: VerdictName, otherwise: 'ok' | 'not_checked', note?: string): Verdict;
  list(): VerificationReport['findings'];
  attacks(): Readonly<Partial<Record<AttackClass, number>>>;
  /** The lowest seq that any finding names. */
  firstBad(): bigint | undefined;
  isEmpty(): boolean;
}

export const createFindings = (): Findings => {
  const failures = new Map<VerdictName, number>();
  const first = new Map<VerdictName, Finding>();
  const counts = new Map<VerdictName, Record<string, number>>();
  const attacks: Partial<Record<AttackClass, number>> = {};
  const all: (Finding & { readonly verdict: VerdictName })[] = [];
  const earlier = (a: Finding, b: Finding): boolean =>
    a.seq !== null && (b.seq === null || BigInt(a.seq) < BigInt(b.seq));
  return {
    fail(verdict, finding) {
      failures.set(verdict, (failures.get(verdict) ?? 0) + 1);
      attacks[finding.attack] = (attacks[finding.attack] ?? 0) + 1;
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
    attacks: () => attacks,
    isEmpty: () => failures.size === 0,
    firstBad: () => {
      const seqs = [...first.values()].flatMap(({ seq }) => (seq === null ? [] : BigInt(seq)));
      return seqs.length === 0 ? undefined : seqs.reduce((a, b) => (a < b ? a : b));
    },
    list: () => [...all].sort((a, b) => (a === b ? 0 : earlier(a, b) ? -1 : earlier(b, a) ? 1 : 0)),
  };
};
