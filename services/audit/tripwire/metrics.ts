import { Counter, Gauge, type Registry } from '../../shared/runtime/metrics.ts';

export interface TripwireMetrics {
  readonly alarms: Counter<'operation'>;
  readonly interruptions: Counter;
  readonly lag: Gauge;
  readonly kept: Gauge;
  readonly watching: Gauge;
}

export const createTripwireMetrics = (registry: Registry): TripwireMetrics => {
  const registers = [registry];
  return {
    alarms: new Counter({
      name: 'edict_tripwire_alarms_total',
      help: 'Changes of the ledger that no program makes, by operation; one for each transaction and table.',
      labelNames: ['operation'],
      registers,
    }),
    interruptions: new Counter({
      name: 'edict_tripwire_interruptions_total',
      help: 'Times that the slot was lost, gone or moved by somebody else: changes meanwhile were not seen.',
      registers,
    }),
    lag: new Gauge({
      name: 'edict_tripwire_lag_bytes',
      help: 'Write-ahead log that was written and not read.',
      registers,
    }),
    kept: new Gauge({
      name: 'edict_tripwire_kept_bytes',
      help: 'Write-ahead log that the server keeps for the slot.',
      registers,
    }),
    watching: new Gauge({ name: 'edict_tripwire_watching', help: '1 while the stream is read.', registers }),
  };
};
