import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createKnownCallers } from '../../../services/pdp/callers/known-callers.ts';
import { createMaskKeys } from '../../../services/pdp/callers/mask-keys.ts';
import { createRateLimits } from '../../../services/pdp/callers/rate-limit.ts';
import { newApiKey } from '../../../services/shared/callers/api-keys.ts';
import type { Caller, Settings } from '../../../services/shared/settings/schema.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';

const settings = (overrides: Partial<Settings> = {}): Settings => ({
  ...loadSettings({ environment: {} }).settings,
  ...overrides,
});
const caller = (overrides: Partial<Caller> = {}): Caller => ({
  id: 'gw',
  tenant: 'default',
  roles: ['decide'],
  api_keys: [],
  requires_agent: true,
  believe_unverified: true,
  properties: {},
  ...overrides,
});

describe('known callers', () => {
  it('lets anybody on loopback be the development caller while none are set', () => {
    const known = createKnownCallers(settings());
    expect(known.isOpen()).toBe(true);
    expect(known.identify(undefined)).toMatchObject({ id: 'development', tenant: 'default', requires_agent: false });
  });

  it('refuses to start on an address that others reach without callers, naming both settings', () => {
    const base = settings();
    const open = { ...base, pdp: { ...base.pdp, listen: '0.0.0.0:7180' } };
    expect(() => createKnownCallers(open)).toThrow(
      expect.objectContaining({
        code: 'settings_invalid',
        message: expect.stringMatching(/\/pdp\/listen.*\/callers/) as string,
      }),
    );
    expect(() => createKnownCallers({ ...open, callers: [caller()] })).not.toThrow();
  });

  it('switches to new callers only when told to, and never opens a listener that others reach', () => {
    const [a, b] = [newApiKey(), newApiKey()];
    const base = settings();
    const first = { ...base, pdp: { ...base.pdp, listen: '0.0.0.0:1' }, callers: [caller({ api_keys: [a.stored] })] };
    const told: (readonly string[])[] = [];
    const known = createKnownCallers(first, (ids) => told.push([...ids]));
    const commit = known.reload({ ...base, callers: [caller({ id: 'new', api_keys: [b.stored] })] });
    expect(known.identify(`Bearer ${a.key}`)?.id).toBe('gw');
    const connection = {};
    for (let request = 0; request < 2; request += 1)
      expect(known.identify(`Bearer ${a.key}`, connection)?.id).toBe('gw');
    expect(known.identify(`Bearer ${b.key}`, connection)).toBeUndefined();
    expect(known.identify(undefined, connection)).toBeUndefined();
    commit();
    expect(known.identify(`Bearer ${a.key}`)).toBeUndefined();
    expect(known.identify(`Bearer ${b.key}`)?.id).toBe('new');
    expect(told).toEqual([['new']]);
    expect(known.identify(`Bearer ${a.key}`, connection)).toBeUndefined();
    expect(() => known.reload(base)).toThrow(expect.objectContaining({ code: 'settings_invalid' }));
  });
});

describe('rate limits', () => {
  const setUp = () => {
    const clock = { ms: 0 };
    return { clock, limits: createRateLimits(() => clock.ms) };
  };

  it('lets in a second’s worth at once, then as much as comes back', () => {
    const { clock, limits } = setUp();
    const limited = caller({ rate_per_s: 2 });
    expect([limits.take(limited), limits.take(limited), limits.take(limited)]).toEqual([0, 0, 1]);
    clock.ms = 500;
    expect([limits.take(limited), limits.take(limited)]).toEqual([0, 1]);
    clock.ms = 60_000;
    expect([limits.take(limited), limits.take(limited), limits.take(limited)]).toEqual([0, 0, 1]);
  });

  it('gives each of several workers its share, and one decision at least', () => {
    const clock = { ms: 0 };
    const workers = Array.from({ length: 4 }, () => createRateLimits(() => clock.ms, 4));
    const takeAll = (rate: number): number => {
      let taken = 0;
      for (const limits of workers) while (limits.take(caller({ rate_per_s: rate })) === 0) taken += 1;
      return taken;
    };
    expect(takeAll(100)).toBe(100);
    clock.ms = 60_000;
    expect(takeAll(100)).toBe(100);
    clock.ms = 60_500;
    expect(takeAll(100)).toBe(48);
    const slow = createRateLimits(() => clock.ms, 4);
    expect([slow.take(caller({ rate_per_s: 1 })), slow.take(caller({ rate_per_s: 1 }))]).toEqual([0, 4]);
    clock.ms = 64_500;
    expect(slow.take(caller({ rate_per_s: 1 }))).toBe(0);
  });

  it('makes later requests wait for what a batch brought', () => {
    const { clock, limits } = setUp();
    const limited = caller({ rate_per_s: 10 });
    expect(limits.take(limited)).toBe(0);
    limits.charge(limited, 99);
    expect(limits.take(limited)).toBe(10);
    clock.ms = 9_100;
    expect(limits.take(limited)).toBe(0);
  });

  it('does not limit where no rate is set, and callers do not share a bucket', () => {
    const { limits } = setUp();
    for (let n = 0; n < 1_000; n += 1) expect(limits.take(caller())).toBe(0);
    expect(limits.take(caller({ id: 'a', rate_per_s: 1 }))).toBe(0);
    expect(limits.take(caller({ id: 'b', rate_per_s: 1 }))).toBe(0);
    limits.keep(new Set(['b']));
    expect(limits.take(caller({ id: 'a', rate_per_s: 1 }))).toBe(0);
    expect(limits.take(caller({ id: 'b', rate_per_s: 1 }))).toBe(1);
  });
});

describe('masking keys', () => {
  let home: string;
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'edict-mask-'));
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));

  it('makes a key for each tenant and the system tenant, once, readable by its owner only', () => {
    const base = settings({ home, tenants: { a: {}, b: {} } });
    const keys = createMaskKeys(base);
    expect(keys.of('a').id).toMatch(/^[0-9a-f]{8}$/);
    expect(keys.of('a').id).not.toBe(keys.of('b').id);
    expect(createMaskKeys(base).of('edict')).toEqual(keys.of('edict'));
    expect(statSync(join(home, 'keys', 'mask', 'a.key')).mode & 0o077).toBe(0);
    expect(() => keys.of('c')).toThrow(expect.objectContaining({ code: 'internal' }));
  });

  it('takes the named file, and keeps the old keys when a new one is bad', () => {
    const file = join(home, 'a.key');
    writeFileSync(file, Buffer.alloc(32, 9));
    const named = settings({ home, tenants: { a: { mask_key_file: file } } });
    const keys = createMaskKeys(named);
    expect(keys.of('a').key).toEqual(Buffer.alloc(32, 9));
    writeFileSync(file, 'short');
    expect(() => keys.reload(named)).toThrow(expect.objectContaining({ code: 'settings_invalid' }));
    expect(keys.of('a').key).toEqual(Buffer.alloc(32, 9));
    writeFileSync(file, Buffer.alloc(32, 8));
    keys.reload(named)();
    expect(keys.of('a').key).toEqual(Buffer.alloc(32, 8));
  });
});
