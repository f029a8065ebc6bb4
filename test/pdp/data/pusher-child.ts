// Pushes COUNT times into the streams below DIRECTORY, then waits to be killed. Usage: pusher-child.ts DIRECTORY NAME COUNT
// Says `{"key", "value", "revision", "digest"}` on a line for each push that was answered.
import { writeSync } from 'node:fs';
import { createDataBook } from '../../../services/pdp/core/data-book.ts';
import { startFileDataStream } from '../../../services/pdp/data/file-stream.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';

const [directory = '', name = '', count = '0'] = process.argv.slice(2);
const book = createDataBook({
  maxBytes: 100_000,
  setTimer: (done, ms) => {
    const timer = setTimeout(done, ms);
    return () => clearTimeout(timer);
  },
});
const stream = await startFileDataStream({
  directory,
  book,
  nowMs: Date.now,
  logger: createLogger({ service: 'test', level: 'silent' }),
  compactBytes: 3_000,
});
for (let value = 0; value < Number(count); value += 1) {
  const pushed = await stream.push('acme', { op: 'put', path: [name], value });
  if (pushed.kind === 'applied') writeSync(1, `${JSON.stringify({ key: name, value, ...pushed.identity })}\n`);
}
writeSync(1, 'done\n');
setInterval(() => undefined, 60_000);
