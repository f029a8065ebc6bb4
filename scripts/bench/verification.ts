import { fork } from 'node:child_process';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { readRowSizes } from './insert-limit.ts';
import { builtScript, describeMachine, median, table, writeResults } from './measure.ts';
import { generateLedger, MASTER_KEY, TENANT } from './verification-ledger.ts';
import type { Round, VerificationMessage, VerificationOrder } from './verification-child.ts';

export interface VerificationOptions {
  /** Decisions in the ledger. */
  readonly events: number;
  readonly rounds: number;
  readonly nodeOptions?: readonly string[];
  readonly log: (line: string) => void;
}

const HEADERS_TARGET = 100_000;
const PAYLOADS_TARGET = 15_000;

/** Verifies in a process of its own, in built form: what is measured has no compiler in between. */
const measure = (
  order: VerificationOrder,
  nodeOptions: readonly string[],
): Promise<Readonly<Record<string, readonly Round[]>>> =>
  new Promise((resolve, reject) => {
    const child = fork(builtScript('verification-child'), ['--verification-child'], { execArgv: [...nodeOptions] });
    child.once('message', (message: unknown) => {
      const said = message as VerificationMessage;
      if ('failure' in said) reject(new AppError('internal', said.failure));
      else resolve(said.rounds);
    });
    child.once('exit', () => reject(new AppError('internal', 'the verifying process ended without a result')));
    child.send(order);
  });

const figuresOf = (name: string, rounds: readonly Round[]) => {
  const of = (value: (round: Round) => number): number => median(rounds.map(value));
  return {
    name,
    per_s_a_core: of(({ entries, cpuUs }) => (entries * 1e6) / cpuUs),
    per_s: of(({ entries, wallMs }) => (entries * 1e3) / wallMs),
    cpu_us: of(({ entries, cpuUs }) => cpuUs / entries),
    postgres_cpu_us: of(({ entries, postgresCpuUs }) => postgresCpuUs / entries),
  };
};

/**
 * How many entries a second a core verifies: headers alone (decoding, place, link, leaf, tree), and everything that
 * `edict audit verify` does, read from a real Postgres; each beside what its cryptography alone costs.
 */
export const benchVerification = async (options: VerificationOptions): Promise<void> => {
  const machine = describeMachine();
  const ledger = await generateLedger(options.events, options.log);
  try {
    const sizes = await readRowSizes(ledger.url);
    const order = {
      url: ledger.url,
      postgresPid: ledger.pid(),
      masterKey: MASTER_KEY.toString('hex'),
      tenant: TENANT,
      events: options.events,
      rounds: options.rounds,
      sizes,
    };
    const rounds = await measure(order, options.nodeOptions ?? []);
    const figures = Object.entries(rounds).map(([name, measured]) => figuresOf(name, measured));
    const ratio = (name: string): number => {
      const [own, limit] = figures.filter((each) => each.name.split(':')[0] === name);
      return (own?.cpu_us ?? Number.NaN) / (limit?.cpu_us ?? Number.NaN);
    };
    const target = (name: string): string =>
      name === 'headers' ? `≥ ${HEADERS_TARGET}` : name === 'all' ? `≥ ${PAYLOADS_TARGET}` : '-';
    options.log(
      `\n${table([
        ['verified', 'entries/s a core', 'target', 'entries/s', 'CPU µs', 'Postgres CPU µs', '× its limit'],
        ...figures.map(({ name, per_s_a_core: core, per_s: perS, cpu_us: cpu, postgres_cpu_us: postgres }) => [
          name,
          core.toFixed(0),
          target(name),
          perS.toFixed(0),
          cpu.toFixed(1),
          postgres.toFixed(1),
          name.includes(':') ? '1' : ratio(name).toFixed(1),
        ]),
      ])}\n`,
    );
    options.log(`${options.events} decisions, header ${sizes.headerBytes} B, payload ${sizes.payloadBytes} B`);
    options.log(JSON.stringify(machine));
    const ratios = { headers: ratio('headers'), all: ratio('all') };
    options.log(writeResults('verification', { bench: 'verification', machine, sizes, figures, ratios }));
  } finally {
    await ledger.close();
  }
};
