import { Counter, Gauge, type Registry } from '../../shared/runtime/metrics.ts';

export interface SignerMetrics {
  readonly checkpoints: Counter;
  readonly entries: Counter;
  readonly alarms: Counter<'alarm'>;
  readonly refused: Gauge;
}

export const createSignerMetrics = (registry: Registry): SignerMetrics => {
  const registers = [registry];
  return {
    checkpoints: new Counter({ name: 'edict_signer_checkpoints_total', help: 'Checkpoints signed.', registers }),
    entries: new Counter({ name: 'edict_signer_entries_total', help: 'Entries read back and hashed.', registers }),
    alarms: new Counter({
      name: 'edict_signer_alarms_total',
      help: 'Refusals to sign, by reason.',
      labelNames: ['alarm'],
      registers,
    }),
    refused: new Gauge({ name: 'edict_signer_refused_logs', help: 'Logs that are not signed now.', registers }),
  };
};
