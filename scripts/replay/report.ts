import { table } from '../bench/measure.ts';
import type { Outcome } from './send.ts';

export interface SuiteCounts {
  readonly suite: string;
  readonly allow: number;
  readonly deny: number;
  /** Requests that ended in no decision. */
  readonly errors: number;
}

export interface ReplayFigures {
  readonly calls: number;
  readonly decisionsPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** The value that `share` of all do not exceed. */
const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;

/** Decisions by suite, in the order of their names. */
export const countsOf = (outcomes: readonly Outcome[]): readonly SuiteCounts[] => {
  const counts = new Map<string, { allow: number; deny: number; errors: number }>();
  for (const outcome of outcomes) {
    const suite = outcome.kind === 'decision' ? outcome.answer.tenant : outcome.tenant;
    const of = counts.get(suite) ?? { allow: 0, deny: 0, errors: 0 };
    of[outcome.kind === 'decision' ? outcome.answer.decision : 'errors'] += 1;
    counts.set(suite, of);
  }
  return [...counts].map(([suite, of]) => ({ suite, ...of })).sort((a, b) => (a.suite < b.suite ? -1 : 1));
};

export const figuresOf = (outcomes: readonly Outcome[], tookMs: number): ReplayFigures => {
  const times = outcomes.map((outcome) => outcome.tookMs).sort((a, b) => a - b);
  return {
    calls: outcomes.length,
    decisionsPerS: (outcomes.length * 1_000) / Math.max(1, tookMs),
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
  };
};

export const countsTable = (counts: readonly SuiteCounts[]): string => {
  const row = ({ suite, allow, deny, errors }: SuiteCounts) => [suite, String(allow), String(deny), String(errors)];
  const sum = (member: 'allow' | 'deny' | 'errors') => counts.reduce((total, each) => total + each[member], 0);
  const total = { suite: 'all', allow: sum('allow'), deny: sum('deny'), errors: sum('errors') };
  return table([['suite', 'allow', 'deny', 'errors'], ...counts.map(row), row(total)]);
};
