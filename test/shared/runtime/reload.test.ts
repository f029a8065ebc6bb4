import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { watchSettings } from '../../../services/shared/runtime/reload.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';

describe('settings reload', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'edict-reload-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const setUp = (pollMs: number) => {
    const file = join(directory, 'edict.yaml');
    const write = (text: string): void => writeFileSync(file, text);
    write('tenants: {a: {}}\n');
    const load = () => loadSettings({ file, environment: {} }).settings;
    const events = new EventEmitter();
    const registry = createRegistry({ service: 'test', processMetrics: false });
    const applied: { first: readonly string[]; second: readonly string[] } = { first: [], second: [] };
    let reached: () => void = () => undefined;
    const reload = watchSettings({
      initial: load(),
      load,
      parts: [
        (settings) => () => (applied.first = Object.keys(settings.tenants)),
        (settings) => {
          if (settings.tenants['bad'] !== undefined) throw new Error('key of bad is missing');
          return () => {
            applied.second = Object.keys(settings.tenants);
            reached();
          };
        },
      ],
      files: () => [file],
      logger: createLogger({ service: 'test', level: 'silent' }),
      registry,
      pollMs,
      events,
    });
    const change = (): Promise<void> => new Promise((resolve) => (reached = resolve));
    return { write, events, registry, applied, reload, change };
  };

  it('takes over new tenants on SIGHUP', () => {
    const { write, events, applied, reload } = setUp(60_000);
    write('tenants: {a: {}, b: {}}\n');
    events.emit('SIGHUP');
    expect(applied).toEqual({ first: ['a', 'b'], second: ['a', 'b'] });
    expect(reload.failure()).toBeUndefined();
    reload.close();
    expect(events.eventNames()).toEqual([]);
  });

  it('takes over nothing, anywhere, when one part refuses or the file is bad, and counts it', async () => {
    const { write, applied, reload, registry } = setUp(60_000);
    write('tenants: {a: {}, bad: {}}\n');
    expect(reload.reload()).toBe(false);
    expect(reload.failure()).toBe('key of bad is missing');
    write('tenants: [\n');
    expect(reload.reload()).toBe(false);
    expect(applied).toEqual({ first: [], second: [] });
    write('tenants: {c: {}}\n');
    expect(reload.reload()).toBe(true);
    expect(applied.second).toEqual(['c']);
    expect(await registry.metrics()).toContain('edict_settings_reloads_total{result="failed",service="test"} 2');
    reload.close();
  });

  it('does not drop authentication: a file that lost its callers, or everything, is refused', () => {
    const { write, applied, reload } = setUp(60_000);
    const { stored } = newApiKey();
    const callers = `callers: [{id: gw, tenant: a, api_keys: ['${stored}']}]\n`;
    write(`tenants: {a: {}}\n${callers}`);
    expect(reload.reload()).toBe(true);
    for (const text of ['', 'tenants: {b: {}}\n', 'tenants: {b: {}}\ncallers: []\n']) {
      write(text);
      expect(reload.reload()).toBe(false);
      expect(reload.failure()).toMatch(/^\/callers: none are left/);
    }
    expect(applied).toEqual({ first: ['a'], second: ['a'] });
    write(`tenants: {a: {}, c: {}}\n${callers}`);
    expect(reload.reload()).toBe(true);
    expect(applied.second).toEqual(['a', 'c']);
    reload.close();
  });

  it('notices a changed file by itself', async () => {
    const { write, applied, reload, change } = setUp(5);
    const changed = change();
    write('tenants: {a: {}, b: {}, c: {}}\n');
    await changed;
    expect(applied.first).toEqual(['a', 'b', 'c']);
    reload.close();
  });
});
