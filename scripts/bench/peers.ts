import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AppError } from '../../services/shared/contracts/errors.ts';
import { createJsonClient } from '../replay/client.ts';
import { startLogSink } from './log-sink.ts';
import { describeMachine, median, residentBytesOf, startBare, table, writeResults } from './measure.ts';
import { measureOutages, type Outage } from './peers-outage.ts';
import { allows, peerRequests, type PeerRequest } from './peers-requests.ts';
import { closeAll, startCerbos, startEdict, startOpa, type Peer } from './peers-servers.ts';
import { chooseDriver, type Driven } from './wrk.ts';

export interface PeersOptions {
  readonly rounds: number;
  readonly durationMs: number;
  readonly warmUpMs: number;
  readonly connections: number;
  readonly requests: number;
  readonly seed: number;
  readonly withCerbos: boolean;
  /** How long the sinks are away; 0: no such run. */
  readonly outageMs: number;
  readonly offeredPerS: number;
  readonly settleMs: number;
  /** Default: `wrk` where it is installed, else our own. */
  readonly driver?: 'wrk' | 'own';
  readonly log: (line: string) => void;
}

export interface PeerFigures extends Omit<Driven, 'failures'> {
  readonly residentBytes: number;
}
export interface PeersResults {
  readonly driver: string;
  /** Of the requests, how many are allowed: by all alike. */
  readonly allowed: number;
  readonly requests: number;
  readonly peers: Readonly<Record<string, PeerFigures>>;
  readonly outages: readonly Outage[];
}

const BARE = 'bare node:http';
const OURS = 'edict, spool';
const OPA_OFF = 'OPA, log off';
const CERBOS_OFF = 'Cerbos, audit off';
const MIB = 2 ** 20;

/** Every server is asked everything once; throws where one decides otherwise than the first. Gives who allows what. */
const checkEqual = async (peers: readonly Peer[], requests: readonly PeerRequest[]): Promise<readonly boolean[]> => {
  let expected: readonly (boolean | undefined)[] | undefined;
  for (const { name, kind, url, path: where, headers } of peers) {
    const apiKey = headers['Authorization']?.replace('Bearer ', '');
    const client = createJsonClient(url, apiKey === undefined ? {} : { apiKey });
    try {
      const answers: (boolean | undefined)[] = [];
      for (const request of requests)
        answers.push(allows(kind, (await client.post(where, JSON.parse(request[kind]))).body));
      const bad = answers.indexOf(undefined);
      if (bad >= 0) throw new AppError('internal', `${name} gave no decision on request ${bad}`);
      expected ??= answers;
      const other = answers.findIndex((answer, at) => answer !== expected?.[at]);
      if (other >= 0)
        throw new AppError(
          'internal',
          `${name} decides ${answers[other]} on request ${other}: ${requests[other]?.opa}`,
        );
    } finally {
      client.close();
    }
  }
  return (expected ?? []).map((answer) => answer === true);
};

const bareSize = async ({ url, path: where, headers }: Peer, requests: readonly PeerRequest[]): Promise<number> => {
  const response = await fetch(`${url}${where}`, {
    method: 'POST',
    body: requests[0]?.edict ?? '',
    headers: { ...headers, 'content-type': 'application/json' },
  });
  return (await response.text()).length;
};

const startPeers = async (scratch: string, withCerbos: boolean, sinkUrl: string, peers: Peer[]): Promise<void> => {
  peers.push(await startEdict(scratch, OURS, { durability: 'spool' }));
  peers.push(await startEdict(scratch, 'edict, memory', { durability: 'memory' }));
  peers.push(await startOpa(scratch, OPA_OFF));
  peers.push(await startOpa(scratch, 'OPA, log to HTTP', sinkUrl));
  if (!withCerbos) return;
  peers.push(await startCerbos(scratch, CERBOS_OFF));
  peers.push(await startCerbos(scratch, 'Cerbos, audit to file', 'file'));
};

const startBarePeer = async (first: Peer, requests: readonly PeerRequest[]): Promise<Peer> => {
  const { child, port } = await startBare(await bareSize(first, requests));
  return {
    name: BARE,
    kind: 'edict',
    url: `http://127.0.0.1:${port}`,
    path: '/decide',
    headers: {},
    pid: child.pid ?? 0,
    close: () => Promise.resolve(void child.kill()),
  };
};

const medians = (rounds: readonly PeerFigures[]): PeerFigures => {
  const of = (figure: keyof PeerFigures): number => median(rounds.map((round) => round[figure]));
  return {
    requestsPerS: of('requestsPerS'),
    p50Ms: of('p50Ms'),
    p99Ms: of('p99Ms'),
    cpuUsPerRequest: of('cpuUsPerRequest'),
    residentBytes: of('residentBytes'),
  };
};

type Served = Pick<PeersResults, 'driver' | 'allowed' | 'requests' | 'peers'>;

const measureServers = async (
  scratch: string,
  requests: readonly PeerRequest[],
  options: PeersOptions,
): Promise<Served> => {
  const { connections, warmUpMs, durationMs, log } = options;
  const driver = await chooseDriver(scratch, options);
  const peers: Peer[] = [];
  const rounds = new Map<string, PeerFigures[]>();
  const sink = await startLogSink();
  try {
    await startPeers(scratch, options.withCerbos, sink.url, peers);
    const decisions = await checkEqual(peers, requests);
    const allowed = decisions.filter(Boolean).length;
    log(`all decide alike: ${allowed} of ${decisions.length} allowed`);
    const [first] = peers;
    if (first !== undefined) peers.unshift(await startBarePeer(first, requests));
    for (let round = 1; round <= options.rounds; round += 1) {
      for (const { name, kind, url, path: where, headers, pid } of peers) {
        const bodies = requests.map((request) => request[kind]);
        const target = { host: '127.0.0.1', port: Number(new URL(url).port), path: where, headers, bodies };
        const { failures, ...figures } = await driver.drive({ ...target, connections, warmUpMs, durationMs }, pid);
        if (failures > 0) throw new AppError('internal', `${name}: ${failures} requests failed`);
        rounds.set(name, [...(rounds.get(name) ?? []), { ...figures, residentBytes: residentBytesOf(pid) }]);
        log(`round ${round}  ${name.padEnd(22)}  ${figures.requestsPerS.toFixed(0)}/s`);
      }
    }
    const figures = Object.fromEntries([...rounds].map(([name, each]) => [name, medians(each)]));
    return { driver: driver.name, allowed, requests: decisions.length, peers: figures };
  } finally {
    driver.close();
    await closeAll([...peers, { close: sink.stop }]);
  }
};

/** Measures all servers in turns, then what each loses; throws when two decide differently or one refuses a request. */
export const measurePeers = async (options: PeersOptions): Promise<PeersResults> => {
  const { outageMs, offeredPerS, settleMs, withCerbos } = options;
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'edict-peers-'));
  try {
    const requests = peerRequests(options.requests, options.seed);
    const served = await measureServers(scratch, requests, options);
    const around = { scratch, requests, outageMs, offeredPerS, settleMs, withCerbos };
    return { ...served, outages: outageMs === 0 ? [] : await measureOutages(around) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** What the project wants, beside what was reached. Nothing fails by it: figures of a shared machine are no test. */
const targetTable = ({ peers, outages }: PeersResults): string => {
  const cpuOf = (name: string): number => peers[name]?.cpuUsPerRequest ?? Number.NaN;
  const times = (value: number): string => (Number.isFinite(value) ? `${value.toFixed(2)} ×` : '–');
  const ours = outages.find(({ name }) => name.startsWith('edict'));
  return table([
    ['target', 'wanted', 'reached'],
    ['CPU of a decision, to a bare node:http server', '<= 2 ×', times(cpuOf(OURS) / cpuOf(BARE))],
    ['requests per CPU second, to OPA without its log', '>= 4 ×', times(cpuOf(OPA_OFF) / cpuOf(OURS))],
    ['the same, to Cerbos without its audit', '>= 8 ×', times(cpuOf(CERBOS_OFF) / cpuOf(OURS))],
    ['events lost while the sink is away', '0', ours === undefined ? '–' : String(ours.lost)],
  ]);
};

/** The figures as text. */
export const reportPeers = (results: PeersResults): string => {
  const bare = results.peers[BARE]?.cpuUsPerRequest ?? Number.NaN;
  const rows = Object.entries(results.peers).map(([name, figures]) => [
    name,
    figures.requestsPerS.toFixed(0),
    figures.p50Ms.toFixed(2),
    figures.p99Ms.toFixed(2),
    figures.cpuUsPerRequest.toFixed(1),
    (figures.cpuUsPerRequest / bare).toFixed(2),
    (figures.residentBytes / MIB).toFixed(0),
  ]);
  const outages = results.outages.map(({ name, outageMs, answered, refused, delivered, lost }) => [
    name,
    (outageMs / 1_000).toFixed(1),
    ...[answered, refused, delivered, lost].map(String),
  ]);
  const parts = [
    table([['server', 'requests/s', 'p50 ms', 'p99 ms', 'CPU µs/request', '× bare', 'RSS MiB'], ...rows]),
    ...(outages.length === 0
      ? []
      : [table([['sink away', 's', 'answered', 'refused', 'delivered', 'lost'], ...outages])]),
    targetTable(results),
    `driven by ${results.driver}, closed loop; ${results.allowed} of ${results.requests} requests allowed, by all alike`,
  ];
  return `\n${parts.join('\n\n')}`;
};

/** Measures, prints, and keeps the figures in `bench/results/`. */
export const benchPeers = async (options: PeersOptions): Promise<void> => {
  const machine = describeMachine();
  const results = await measurePeers(options);
  const { log, ...settings } = options;
  log(reportPeers(results));
  log(`medians of ${options.rounds} rounds; ${options.connections} connections; ${JSON.stringify(machine)}`);
  log(writeResults('peers', { bench: 'peers', machine, settings, ...results }));
};
