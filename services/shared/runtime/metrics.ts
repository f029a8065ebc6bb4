import { AggregatorRegistry, collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

export type { Registry } from 'prom-client';
export { Counter, Gauge, Histogram };

/**
 * A registry of one program: its metrics carry `service`, and `worker` where there are several; process metrics unless
 * `processMetrics` is false.
 */
export const createRegistry = (options: {
  readonly service: string;
  readonly worker?: number | undefined;
  readonly processMetrics?: boolean;
}): Registry => {
  const registry = new Registry();
  const { service, worker } = options;
  registry.setDefaultLabels({ service, ...(worker === undefined ? {} : { worker }) });
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

/** What `getMetricsAsJSON` of a registry gives. */
export type MetricValues = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** One registry with the series of all, which must differ in a label. */
export const joinMetrics = (all: readonly MetricValues[]): Registry =>
  AggregatorRegistry.aggregate(
    // Of one value each way of adding up gives that value, but `omit`.
    all.map((metrics) => metrics.map((metric) => ({ ...metric, aggregator: 'first' as const }))),
  );
