import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { spawnLogged, stopChild, tailOf, type LoggedChild } from './child-process.ts';
import { freePorts } from './free-ports.ts';
import { preparedPart, repositoryRoot } from './prepared-parts.ts';

const startLimitMs = 60_000;
const log4jFile = path.join(repositoryRoot, 'test', 'support', 'kafka', 'log4j2.properties');

/** Any base64 UUID will do: a broker lives and dies with its data folder. */
const clusterId = 'MkU3OEVBNTcwNTJENDM2Qk';

const Jars = Type.Object({ java: Type.String(), lib: Type.String(), classArchive: Type.String() });

/** A real single-node Kafka broker (KRaft) on loopback ports that it keeps over restarts. */
export interface KafkaBroker {
  /** For the client's `brokers` setting. */
  readonly brokers: readonly string[];
  /** The process id of the running broker. */
  pid(): number;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** A clean shutdown; the data stays. */
  stop(): Promise<void>;
  /** Starts again on the same data and ports, after `kill` or `stop` (or a running broker, which is stopped first). */
  restart(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing answers. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** The broker's log so far. */
  log(): string;
  /** Kills the broker and removes its data. */
  close(): Promise<void>;
}

export interface KafkaOptions {
  /** Added to, or put in place of, the server's properties. */
  readonly properties?: Readonly<Record<string, string | number | boolean>>;
  /** More options of the format command, such as `--add-scram`. */
  readonly formatArgs?: readonly string[];
  /** Writes the JVM's class archive to this file when the broker is stopped; used by the set-up only. */
  readonly writeClassArchive?: string;
}

const run = promisify(execFile);

function serverProperties(brokerPort: number, controllerPort: number): Record<string, string | number | boolean> {
  return {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${brokerPort},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${brokerPort}`,
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'listener.security.protocol.map': 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL',
    'log.dirs': 'data',
    'auto.create.topics.enable': false,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.num.partitions': 1,
    'transaction.state.log.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    'group.min.session.timeout.ms': 500,
    // A killed broker may come back only when its session ended: 9 s by default.
    'broker.session.timeout.ms': 1000,
    'broker.heartbeat.interval.ms': 200,
    'num.network.threads': 2,
    'num.io.threads': 2,
    'log.cleaner.dedupe.buffer.size': 8_388_608,
  };
}

async function acceptsConnections(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      socket.destroy();
      resolve(false);
    });
  });
}

/** Starts a broker with a fresh data folder. Rejects with the end of its log when it does not come up. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaBroker> {
  const { java, lib, classArchive } = Value.Parse(Jars, preparedPart('kafka'));
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-kafka-'));
  const logFile = path.join(folder, 'broker.log');
  const propertiesFile = path.join(folder, 'server.properties');
  const classPath = path.join(lib, '*');
  const [brokerPort, controllerPort] = await freePorts(2);
  if (brokerPort === undefined || controllerPort === undefined) throw new Error('no free ports');

  const properties = { ...serverProperties(brokerPort, controllerPort), ...options.properties };
  const lines = Object.entries(properties).map(([key, value]) => `${key}=${value}\n`);
  writeFileSync(propertiesFile, lines.join(''));

  const lightJvm = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', `-Dlog4j2.configurationFile=${log4jFile}`];
  const archive =
    options.writeClassArchive !== undefined
      ? [`-XX:ArchiveClassesAtExit=${options.writeClassArchive}`]
      : existsSync(classArchive)
        ? [`-XX:SharedArchiveFile=${classArchive}`]
        : [];
  const format = ['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', propertiesFile];
  await run(java, [...lightJvm, '-cp', classPath, ...format, ...(options.formatArgs ?? [])], {
    cwd: folder,
    timeout: startLimitMs,
  });

  let broker: LoggedChild | undefined;

  const start = async (): Promise<void> => {
    const args = ['-Xms256m', '-Xmx256m', ...lightJvm, ...archive, '-cp', classPath, 'kafka.Kafka', propertiesFile];
    const child = await spawnLogged(java, args, { cwd: folder, logFile });
    broker = child;
    const deadline = Date.now() + startLimitMs;
    // The listener opens only when the broker takes requests.
    while (!(await acceptsConnections(brokerPort))) {
      if (child.hasExited()) throw new Error(`the broker ended while starting:\n${tailOf(logFile)}`);
      if (Date.now() > deadline) {
        await stopChild(child, 0);
        throw new Error(`the broker did not listen within ${startLimitMs} ms:\n${tailOf(logFile)}`);
      }
      await sleep(30);
    }
  };

  const kill = async (): Promise<void> => {
    if (broker === undefined) return;
    broker.signal('SIGKILL');
    await broker.exited;
    broker = undefined;
  };

  const stop = async (): Promise<void> => {
    if (broker === undefined) return;
    // Writing the class archive takes a few seconds at exit.
    await stopChild(broker, options.writeClassArchive === undefined ? 5_000 : 60_000);
    broker = undefined;
  };

  await start();
  return {
    brokers: [`127.0.0.1:${brokerPort}`],
    pid() {
      if (broker === undefined) throw new Error('the broker does not run');
      return broker.pid;
    },
    kill,
    stop,
    async restart() {
      await stop();
      await start();
    },
    pause: () => broker?.signal('SIGSTOP'),
    resume: () => broker?.signal('SIGCONT'),
    log: () => readFileSync(logFile, 'utf8'),
    async close() {
      await kill();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
