import { createAuthenticate, developmentCaller, newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { loadSettings, type Caller } from '../../../services/shared/settings/settings.ts';

const caller = (id: string, ...keys: readonly string[]): Caller => ({
  id,
  tenant: 'acme',
  roles: ['decide'],
  api_keys: [...keys],
  requires_agent: true,
  believe_unverified: true,
  properties: {},
});

describe('API keys', () => {
  it('makes keys of the published form that the settings accept, without the secret', () => {
    const { key, stored } = newApiKey();
    expect(key).toMatch(/^edict_[a-z0-9]{12}_[A-Za-z0-9_-]{43}$/);
    expect(stored).toMatch(/^[a-z0-9]{12}\$sha256\$[A-Za-z0-9_-]{22,64}\$[A-Za-z0-9_-]{43}$/);
    expect(stored).not.toContain(key.slice(19));
    expect(newApiKey().key).not.toBe(key);
  });

  it('knows each caller by each of its keys', () => {
    const [a, b, c] = [newApiKey(), newApiKey(), newApiKey()];
    const authenticate = createAuthenticate([caller('one', a.stored, b.stored), caller('two', c.stored)]);
    expect(authenticate(`Bearer ${a.key}`)?.id).toBe('one');
    expect(authenticate(`bearer ${b.key}`)?.id).toBe('one');
    expect(authenticate(`Bearer ${c.key}`)?.id).toBe('two');
  });

  it('knows nobody else', () => {
    const [a, b] = [newApiKey(), newApiKey()];
    const authenticate = createAuthenticate([caller('one', a.stored)]);
    const flipped = `${a.key.slice(0, 30)}${a.key[30] === 'A' ? 'B' : 'A'}${a.key.slice(31)}`;
    for (const header of [
      undefined,
      '',
      a.key,
      `Basic ${a.key}`,
      `Bearer ${b.key}`,
      `Bearer ${flipped}`,
      `Bearer ${a.key}x`,
      `Bearer ${a.key} x`,
      `Bearer ${a.stored}`,
      `Bearer ${'x'.repeat(100_000)}`,
    ])
      expect(authenticate(header)).toBeUndefined();
  });

  it('gives the development caller the first tenant and every role', () => {
    const { settings } = loadSettings({ environment: {} });
    expect(developmentCaller(settings)).toMatchObject({
      tenant: 'default',
      requires_agent: false,
      believe_unverified: false,
    });
  });
});
