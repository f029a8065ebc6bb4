import type { CaseResult, EngineResults } from './engine.ts';
import type { Reload } from './engine-reload.ts';
import { table } from './measure.ts';
import { runawayTable, slowestOf } from './runaways.ts';

const HOSTS = ['ours', 'ours, text', 'sdk', 'cedar', 'opa bench'] as const;
const MIB = 2 ** 20;

const us = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
const ratio = (value: number): string => (Number.isFinite(value) ? value.toFixed(2) : '–');

const ratioTo = ({ hosts }: CaseResult, other: (typeof HOSTS)[number]): number =>
  (hosts.ours?.p50Us ?? Number.NaN) / (hosts[other]?.p50Us ?? Number.NaN);

const caseTable = (cases: readonly CaseResult[]): string => {
  const head = ['µs an evaluation, p50 / p99', ...HOSTS, 'fuel', 'ours / sdk'];
  const rows = cases.map((each) => [
    each.name,
    ...HOSTS.map((host) => {
      const figures = each.hosts[host];
      return figures === undefined ? '–' : `${us(figures.p50Us)} / ${us(figures.p99Us)}`;
    }),
    [...new Set(each.fuel)].join(', '),
    ratio(ratioTo(each, 'sdk')),
  ]);
  return table([head, ...rows]);
};

const cannotLines = (cases: readonly CaseResult[]): readonly string[] =>
  cases.flatMap(({ name, cannot }) =>
    Object.entries(cannot).map(([host, why]) => `${name}: not on ${host}: ${why.split('\n')[0] ?? ''}`),
  );

/** What the project wants, beside what was reached. Nothing fails by it: figures of a shared machine are no test. */
const stallText = ({ turnMs, turnCpuMs, decideMs }: Reload['during']): string =>
  `${turnMs.toFixed(1)} ms, ${turnCpuMs.toFixed(1)} of CPU, longest /decide ${decideMs.toFixed(0)} ms`;

const targetTable = ({ cases, builtinCall, runaways, reload }: EngineResults): string => {
  const worst = (chosen: readonly CaseResult[]): string => {
    const ratios = chosen.map((each) => ratioTo(each, 'sdk')).filter(Number.isFinite);
    return ratios.length === 0 ? '–' : ratio(Math.max(...ratios));
  };
  return table([
    ['target', 'wanted', 'reached'],
    ['any row, ours / sdk, p50', '<= 1', worst(cases)],
    ['boolean and flat answers, ours / sdk, p50', '<= 0.85', worst(cases.filter(({ isFlat }) => isFlat))],
    ['host built-in call, µs (the SDK: 4)', '<= 2', builtinCall.oursUs.toFixed(2)],
    ['runaway under the default fuel, ms CPU', '<= 5', slowestOf(runaways).toFixed(1)],
    ['reload stalls the event loop, ms', '<= 10', reload === undefined ? '–' : reload.during.turnMs.toFixed(1)],
  ]);
};

/** The figures as text. */
export const reportEngine = (results: EngineResults): string => {
  const { cases, builtinCall, runaways, flood, memory, reload } = results;
  const floodRow = (name: string, { outcome, cpuMs, fuelUsed }: (typeof flood)['plain']) => [
    name,
    cpuMs.toFixed(1),
    String(fuelUsed),
    outcome,
  ];
  const parts = [
    caseTable(cases),
    [
      '"ours" and "sdk": from an object to a value; "ours, text": as the decision point does it, text to text;',
      'cedar: the request and its entities, policies parsed before; opa bench: input and data parsed before.',
      ...cannotLines(cases),
    ].join('\n'),
    `host built-in call: ours ${builtinCall.oursUs.toFixed(2)} µs, the SDK ${builtinCall.sdkUs.toFixed(2)} µs`,
    runawayTable(runaways),
    table([
      [`${flood.keys} keys in an input`, 'ms CPU', 'fuel', 'outcome'],
      floodRow('that collide', flood.colliding),
      floodRow('that do not', flood.plain),
    ]),
    table([
      ['memory by data, MiB', 'ours', '× JSON', 'load ms', 'sdk', '× JSON', 'load ms'],
      ...memory.map(({ jsonBytes, ours, sdk }) => [
        (jsonBytes / MIB).toFixed(1),
        ...[ours, sdk].flatMap(({ residentBytes, loadMs }) => [
          (residentBytes / MIB).toFixed(0),
          (residentBytes / jsonBytes).toFixed(1),
          loadMs.toFixed(0),
        ]),
      ]),
    ]),
    ...(reload === undefined
      ? []
      : [
          `reload of ${(reload.dataBytes / MIB).toFixed(0)} MiB of data: ${reload.reloadMs.toFixed(0)} ms; ` +
            `longest turn of the event loop ${stallText(reload.during)} (in a second before: ${stallText(reload.before)}); ` +
            `RSS ${(reload.residentBytes / MIB).toFixed(0)} MiB, at most ${(reload.residentBytesPeak / MIB).toFixed(0)}`,
        ]),
    targetTable(results),
  ];
  return `\n${parts.join('\n\n')}`;
};
