// Preloaded into a process that is measured (`node --import`): writes down each turn of its event loop that took long.
import { appendFileSync, readFileSync } from 'node:fs';

const file = process.env['LOOP_PROBE_FILE'];
const TICK_MS = 1;
const LONG_MS = 2;

/** What the main thread ran so far (Linux, Documentation/scheduler/sched-stats.rst), milliseconds. */
const threadCpuMs = (): number =>
  Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6;

if (file !== undefined) {
  let lastMs = performance.now();
  let lastCpuMs = threadCpuMs();
  setInterval(() => {
    const nowMs = performance.now();
    const cpuMs = threadCpuMs();
    const tookMs = nowMs - lastMs - TICK_MS;
    if (tookMs > LONG_MS)
      appendFileSync(file, `${performance.timeOrigin + nowMs} ${tookMs} ${Math.min(tookMs, cpuMs - lastCpuMs)}\n`);
    lastMs = performance.now();
    lastCpuMs = threadCpuMs();
  }, TICK_MS).unref();
}
