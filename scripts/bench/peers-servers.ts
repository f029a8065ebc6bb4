import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { packageFolder } from '../../services/cli/opa-binary.ts';
import { AppError, errorMessage } from '../../services/shared/contracts/errors.ts';
import { spawnLogged, stopChild, tailOf } from '../../test/support/child-process.ts';
import { startEmbedded, writeSecret } from '../../test/support/deployment.ts';
import { freePorts } from '../../test/support/free-ports.ts';
import { compileRego, opaCommand, packBundle, POLICIES } from './opa.ts';
import { LIMITS, type PeerKind } from './peers-requests.ts';

/** A server that decides, as a real process. */
export interface Peer {
  readonly name: string;
  readonly kind: PeerKind;
  readonly url: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly pid: number;
  close(): Promise<void>;
}

const CERBOS_VERSION = '0.55.0';
const INSTALL_MAX_MS = 300_000;
const START_MAX_MS = 60_000;
const STOP_MAX_MS = 5_000;
const TENANT = 'acme';

const execute = promisify(execFile);
const policySource = (): string => readFileSync(path.join(POLICIES, 'decide.rego'), 'utf8');

/**
 * Cerbos of its npm package for this platform, installed into the cache folder at first use: 100 MB that nothing but
 * this bench needs. Throws `usage` where there is none.
 */
export const cerbosCommand = async (): Promise<string> => {
  const name = `cerbos-${process.platform}-${process.arch}`;
  const folder = path.join(packageFolder(), '.cache', `cerbos-${CERBOS_VERSION}`);
  const command = path.join(folder, 'node_modules', '@cerbos', name, name);
  if (existsSync(command)) return command;
  mkdirSync(folder, { recursive: true });
  const args = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', folder];
  try {
    await execute('npm', [...args, `@cerbos/${name}@${CERBOS_VERSION}`], { timeout: INSTALL_MAX_MS });
    chmodSync(command, 0o755);
  } catch (cause) {
    throw new AppError('usage', `@cerbos/${name} cannot be installed; leave Cerbos out with --without-cerbos`, {
      cause,
    });
  }
  return command;
};

interface Started {
  readonly command: string;
  readonly args: readonly string[];
  readonly folder: string;
  readonly healthUrl: string;
}

const startServer = async ({ command, args, folder, healthUrl }: Started) => {
  const logFile = path.join(folder, 'server.log');
  const child = await spawnLogged(command, args, { cwd: folder, logFile });
  const deadlineMs = performance.now() + START_MAX_MS;
  const isHealthy = async (): Promise<boolean> => {
    try {
      return (await fetch(healthUrl, { signal: AbortSignal.timeout(1_000) })).ok;
    } catch {
      return false;
    }
  };
  while (!(await isHealthy())) {
    if (child.hasExited() || performance.now() > deadlineMs) {
      await stopChild(child, 0);
      throw new AppError('internal', `${path.basename(command)} did not start:\n${tailOf(logFile)}`);
    }
    await sleep(50);
  }
  return { pid: child.pid, close: async () => void (await stopChild(child, STOP_MAX_MS)) };
};

/** OPA's server with the Rego source. Its decision log goes to `sink`, with OPA's own defaults but a shorter delay. */
export const startOpa = async (scratch: string, name: string, sink?: string): Promise<Peer> => {
  const folder = mkdtempSync(path.join(scratch, 'opa-'));
  const [port] = await freePorts(1);
  const address = `127.0.0.1:${port}`;
  writeFileSync(path.join(folder, 'decide.rego'), policySource());
  writeFileSync(path.join(folder, 'data.json'), JSON.stringify(LIMITS));
  const config = {
    services: { sink: { url: sink } },
    decision_logs: { service: 'sink', reporting: { min_delay_seconds: 1, max_delay_seconds: 2 } },
  };
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(sink === undefined ? {} : config));
  const args = ['run', '--server', '--addr', address, '--log-level', 'error', '--disable-telemetry'];
  const server = await startServer({
    command: await opaCommand(),
    args: [...args, '--config-file', 'config.json', 'decide.rego', 'data.json'],
    folder,
    healthUrl: `http://${address}/health`,
  });
  return { name, kind: 'opa', url: `http://${address}`, path: '/v1/data/edict/decide', headers: {}, ...server };
};

export type CerbosAudit = 'file' | { readonly brokers: readonly string[]; readonly topic: string };

/** Cerbos with the same decisions in its own policy language. Its audit log has decisions only, as ours has. */
export const startCerbos = async (scratch: string, name: string, audit?: CerbosAudit): Promise<Peer> => {
  const folder = mkdtempSync(path.join(scratch, 'cerbos-'));
  const [port, grpcPort] = await freePorts(2);
  const backend =
    audit === undefined || audit === 'file'
      ? { backend: 'file', file: { path: path.join(folder, 'audit.log') } }
      : // Its default compression, snappy, is one that the reader of the topic does not have.
        { backend: 'kafka', kafka: { ...audit, clientID: 'cerbos', encoding: 'json', compression: ['none'] } };
  const config = {
    server: { httpListenAddr: `127.0.0.1:${port}`, grpcListenAddr: `127.0.0.1:${grpcPort}` },
    telemetry: { disabled: true },
    storage: { driver: 'disk', disk: { directory: path.join(POLICIES, 'cerbos'), watchForChanges: false } },
    audit: { enabled: audit !== undefined, accessLogsEnabled: false, decisionLogsEnabled: true, ...backend },
  };
  writeFileSync(path.join(folder, 'config.yaml'), JSON.stringify(config));
  const url = `http://127.0.0.1:${port}`;
  const server = await startServer({
    command: await cerbosCommand(),
    args: ['server', '--config', 'config.yaml', '--debug-listen-addr=', '--log-level=error'],
    folder,
    healthUrl: `${url}/_cerbos/health`,
  });
  return { name, kind: 'cerbos', url, path: '/api/check/resources', headers: {}, ...server };
};

export interface EdictPeer {
  readonly durability: 'memory' | 'spool' | 'disk';
  /** Events go to this broker. Default: nothing reads the spool. */
  readonly brokers?: readonly string[];
}

/** The decision point: API keys checked, policy evaluated, each decision recorded. */
export const startEdict = async (
  scratch: string,
  name: string,
  { durability, brokers = [] }: EdictPeer,
): Promise<Peer> => {
  const folder = mkdtempSync(path.join(scratch, 'edict-'));
  const source = policySource();
  const entrypoints = ['edict/decide'];
  const { wasm } = await compileRego({ scratch: folder, name: 'decide', source, entrypoints, data: LIMITS });
  const bundle = path.join(folder, 'bundle.tar.gz');
  writeFileSync(bundle, await packBundle(wasm, 1, JSON.stringify(LIMITS)));
  const maskKey = writeSecret(folder, 'mask.key', randomBytes(32));
  const deployment = await startEmbedded({
    tenants: [TENANT],
    services: ['pdp'],
    settings: {
      log: { level: 'error' },
      pdp: { bundles: [bundle], durability },
      kafka: { brokers },
      tenants: { [TENANT]: { mask_key_file: maskKey } },
      // Where nothing reads the spool, it must hold the whole run.
      spool: { max: '16GiB', tenant_quota: '15GiB' },
    },
  });
  return {
    name,
    kind: 'edict',
    url: deployment.pdp.url,
    path: '/decide',
    headers: { Authorization: `Bearer ${deployment.keys(TENANT).decide}` },
    pid: deployment.pdp.pid(),
    close: async () => {
      await deployment.close();
    },
  };
};

/** Ends all that were started, whatever happens to one of them. */
export const closeAll = async (peers: readonly { close(): Promise<void> }[]): Promise<void> => {
  const ends = await Promise.allSettled(peers.map(async (peer) => await peer.close()));
  const [failed] = ends.filter((end) => end.status === 'rejected');
  if (failed !== undefined) throw new AppError('internal', `not all servers ended: ${errorMessage(failed.reason)}`);
};
