import { Counter, Gauge, type Registry } from '../../shared/runtime/metrics.ts';

export interface WitnessMetrics {
  readonly size: Gauge<'witness'>;
  readonly time: Gauge<'witness'>;
  readonly failures: Counter<'witness'>;
  readonly alarms: Counter<'alarm'>;
  readonly quorum: Gauge;
}

/** `alarms`: the signer’s own counter. */
export const createWitnessMetrics = (registry: Registry, alarms: Counter<'alarm'>): WitnessMetrics => {
  const registers = [registry];
  const labelNames = ['witness'] as const;
  return {
    alarms,
    size: new Gauge({
      name: 'edict_witness_cosigned_size',
      help: 'Size of the meta checkpoint that the witness cosigned last.',
      labelNames,
      registers,
    }),
    time: new Gauge({
      name: 'edict_witness_cosigned_timestamp_seconds',
      help: 'When it cosigned last, by its own clock.',
      labelNames,
      registers,
    }),
    failures: new Counter({
      name: 'edict_witness_failures_total',
      help: 'Attempts that brought no cosignature.',
      labelNames,
      registers,
    }),
    quorum: new Gauge({
      name: 'edict_witness_quorum_size',
      help: 'Size of the largest meta checkpoint that a quorum cosigned since the start.',
      registers,
    }),
  };
};
