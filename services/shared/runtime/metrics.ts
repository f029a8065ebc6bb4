import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

export type { Registry } from 'prom-client';
export { Counter, Gauge, Histogram };

/** A registry of one program: its metrics carry `service`; process metrics unless `processMetrics` is false. */
export const createRegistry = (options: { readonly service: string; readonly processMetrics?: boolean }): Registry => {
  const registry = new Registry();
  registry.setDefaultLabels({ service: options.service });
  if (options.processMetrics !== false) collectDefaultMetrics({ register: registry });
  return registry;
};

/** Gauges whose values are asked for when somebody reads them, e.g. spool bytes; `read` must not throw. */
export const registerGauges = (
  registry: Registry,
  gauges: Readonly<Record<string, { readonly help: string; readonly read: () => number }>>,
): void => {
  for (const [name, { help, read }] of Object.entries(gauges)) {
    registry.registerMetric(
      new Gauge({
        name,
        help,
        registers: [],
        collect() {
          this.set(read());
        },
      }),
    );
  }
};

/** As `registerGauges`, of what only grows. */
export const registerCounts = (
  registry: Registry,
  counts: Readonly<Record<string, { readonly help: string; readonly read: () => number }>>,
): void => {
  for (const [name, { help, read }] of Object.entries(counts)) {
    registry.registerMetric(
      new Counter({
        name,
        help,
        registers: [],
        collect() {
          this.reset();
          this.inc(read());
        },
      }),
    );
  }
};
