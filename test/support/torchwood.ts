import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256Hex } from '../../services/shared/contracts/bytes.ts';
import { generateSigningKey } from '../../services/shared/contracts/signatures.ts';
import { formatWitnessVkey } from '../../services/shared/tlog/cosignature.ts';
import { spawnLogged, stopChild, tailOf, type LoggedChild } from './child-process.ts';
import { freePort } from './free-ports.ts';
import { preparedPart } from './prepared-parts.ts';

const commands = (): { readonly command: string; readonly litewitness: string } =>
  preparedPart('torchwood') as { readonly command: string; readonly litewitness: string };

interface Result {
  readonly code: number;
  readonly said: string;
}

const run = async (...args: readonly string[]): Promise<Result> =>
  await new Promise((resolve) => {
    execFile(commands().command, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, said: `${stdout}${stderr}` });
    });
  });

/** What torchwood says of a tlog-proof of the entry in `entryFile`; code 0: it is good. */
export const verifyWithTorchwood = (policyFile: string, entryFile: string, proofFile: string): Promise<Result> =>
  run('verify-proof', '-policy', policyFile, '-entry', entryFile, proofFile);

/** A running witness of others. */
export interface Litewitness {
  readonly url: string;
  readonly vkey: string;
  close(): Promise<void>;
}

const LIMIT_MS = 30_000;

const isListening = async (url: string): Promise<boolean> => {
  try {
    await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(5_000) });
    return true;
  } catch {
    return false;
  }
};

/** Starts litewitness with a new key and these logs, given by their verifier key lines. */
export const startLitewitness = async (vkeys: readonly string[]): Promise<Litewitness> => {
  const folder = mkdtempSync(path.join(tmpdir(), 'edict-litewitness-'));
  const inFolder = (name: string): string => path.join(folder, name);
  const children: LoggedChild[] = [];
  const close = async (): Promise<void> => {
    // litewitness ends in good order on SIGINT only.
    for (const child of children.reverse()) await stopChild(child, 10_000, 'SIGINT');
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const { key, pem } = generateSigningKey();
    writeFileSync(inFolder('key.pem'), pem, { mode: 0o600 });
    const start = async (command: string, log: string, ...args: readonly string[]): Promise<LoggedChild> => {
      const child = await spawnLogged(command, args, { cwd: folder, logFile: inFolder(log) });
      children.push(child);
      return child;
    };
    const until = async (log: string, child: LoggedChild, isDone: () => Promise<boolean>): Promise<void> => {
      for (const deadline = Date.now() + LIMIT_MS; !(await isDone()); await sleep(20))
        if (child.hasExited() || Date.now() > deadline) throw new Error(`did not start:\n${tailOf(inFolder(log))}`);
    };
    const agent = ['agent', '-socket', 'agent.sock', '-key', 'key.pem'] as const;
    const agentChild = await start(commands().command, 'agent.log', ...agent);
    const name = 'litewitness.example/w1';
    const url = `http://127.0.0.1:${await freePort()}`;
    const options = { db: 'w.db', name, listen: new URL(url).host, 'ssh-agent': 'agent.sock' };
    const args = Object.entries({ ...options, key: sha256Hex(key.publicKey) }).flatMap(([k, v]) => [`-${k}`, v]);
    await until('agent.log', agentChild, () => Promise.resolve(existsSync(inFolder('agent.sock'))));
    const child = await start(commands().litewitness, 'litewitness.log', ...args);
    await until('litewitness.log', child, () => isListening(url));
    for (const vkey of vkeys) {
      writeFileSync(inFolder('log.vkey'), vkey);
      const { code, said } = await run('add-log', '-db', inFolder('w.db'), '-vkey', inFolder('log.vkey'));
      if (code !== 0) throw new Error(`litewitness does not take the log: ${said}`);
    }
    return { url, vkey: formatWitnessVkey(name, key.publicKey), close };
  } catch (error) {
    await close();
    throw error;
  }
};
