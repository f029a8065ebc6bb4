// A worker of the tests: behaves as its settings say, over the real channel. Like the real one it loads for a while, and
// something else reads the channel meanwhile.
import { setTimeout as sleep } from 'node:timers/promises';
import { createWorkerLink } from '../../../services/pdp/workers/worker-link.ts';

export type Behaviour = 'serve' | 'refuse' | 'deaf' | 'stuck' | 'hang' | 'die';

process.on('message', () => undefined);
await sleep(100);

const link = createWorkerLink(process);
link.onStop(() => process.exit(0));
const { index, settings } = await link.orders();
const behaviour = (settings as unknown as { readonly behaviours: readonly Behaviour[] }).behaviours[index];
if (behaviour === 'refuse') {
  await link.say({ edict: 'failed', code: 'settings_invalid', message: 'no good' });
  process.exit(1);
}
if (behaviour === 'hang') for (;;);
let reloads = 0;
link.onReload(() => (reloads += 1));
link.answerWith(async ({ kind }) => {
  if (kind === 'metrics') return (await link.ask({ kind: 'checks' })).answers;
  return kind === 'checks' ? { index, reloads } : process.pid;
});
if (behaviour === 'deaf') link.onStop(() => undefined);
await link.say({ edict: 'listening', url: `http://127.0.0.1:1/${index}` });
if (behaviour === 'die') setTimeout(() => process.exit(3), 20);
if (behaviour === 'stuck')
  setTimeout(() => {
    for (;;);
  }, 20);
