import type { Registry } from '../../shared/runtime/metrics.ts';
import { Counter, Gauge, Histogram } from '../../shared/runtime/metrics.ts';
import type { Plan } from '../core/ingest-plan.ts';

export interface IngestMetrics {
  readonly entries: Counter<'kind'>;
  readonly messages: Counter;
  readonly outcomes: Counter<'outcome'>;
  readonly lostOffsets: Counter;
  readonly fenced: Counter;
  readonly failures: Counter;
  readonly missing: Gauge;
  readonly batchSeconds: Histogram;
  /** Counts a committed batch of `messages` messages. */
  readonly count: (messages: number, plan: Plan) => void;
}

export const createIngestMetrics = (registry: Registry): IngestMetrics => {
  const registers = [registry];
  const entries = new Counter({
    name: 'edict_ledger_entries_total',
    help: 'Entries appended by ingest, by kind.',
    labelNames: ['kind'],
    registers,
  });
  const messages = new Counter({
    name: 'edict_ingest_messages_total',
    help: 'Messages taken from sources.',
    registers,
  });
  const outcomes = new Counter({
    name: 'edict_ingest_outcomes_total',
    help: 'Messages that were no new event: duplicates, conflicts, quarantined; alerts and healed gaps.',
    labelNames: ['outcome'],
    registers,
  });
  return {
    entries,
    messages,
    outcomes,
    lostOffsets: new Counter({
      name: 'edict_ingest_lost_offsets_total',
      help: 'Offsets that a source lost before they were read.',
      registers,
    }),
    fenced: new Counter({
      name: 'edict_ingest_fenced_total',
      help: 'Batches given up because another reader had moved the cursor.',
      registers,
    }),
    failures: new Counter({ name: 'edict_ingest_failures_total', help: 'Attempts to store that failed.', registers }),
    missing: new Gauge({
      name: 'edict_ingest_missing_ranges',
      help: 'Ranges of numbers that streams miss at the moment.',
      registers,
    }),
    batchSeconds: new Histogram({
      name: 'edict_ingest_batch_seconds',
      help: 'Time of one transaction.',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
      registers,
    }),
    count(taken, plan) {
      messages.inc(taken);
      for (const list of plan.entries.values()) for (const { kind } of list) entries.inc({ kind });
      for (const counts of plan.counts.values())
        for (const [outcome, value] of Object.entries(counts)) outcomes.inc({ outcome }, value);
    },
  };
};
