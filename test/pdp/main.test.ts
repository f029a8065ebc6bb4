import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startPdp, type Pdp } from '../../services/pdp/main.ts';
import { loadBundle } from '../../services/pdp/policy/load-bundle.ts';
import { newApiKey } from '../../services/shared/callers/api-keys.ts';
import { createLogger } from '../../services/shared/runtime/logger.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { answering, makeBundle } from './policy/make-bundles.ts';

const HR = {
  subject: { type: 'user', id: 'alice' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
  context: { purpose: 'headcount-report' },
};
interface Answer {
  readonly status: number;
  readonly body: {
    readonly decision: string;
    readonly decision_id?: string;
    readonly reasons: readonly { readonly code: string; readonly leg?: string }[];
    readonly audit?: { readonly boot: string; readonly sequence: string; readonly durability: string };
  };
}
const ask = async (url: string, body: unknown, key?: string): Promise<Answer> => {
  const response = await fetch(`${url}/decide`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Answer['body'] };
};

describe('the decision point, whole', () => {
  let directory: string;
  let pdp: Pdp | undefined;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'edict-pdp-'));
  });
  afterEach(async () => {
    await pdp?.close();
    pdp = undefined;
    rmSync(directory, { recursive: true, force: true });
  });

  const start = async (
    yaml = '',
    ofPdp = '',
  ): Promise<{ readonly url: string; readonly write: (yaml: string) => void }> => {
    const file = join(directory, 'edict.yaml');
    const write = (text: string): void =>
      writeFileSync(file, `home: home\npdp: {listen: "127.0.0.1:0"${ofPdp}}\n${text}`);
    write(yaml);
    const load = () => loadSettings({ file, environment: {} }).settings;
    pdp = await startPdp(load(), {
      logger: createLogger({ service: 'pdp', level: 'silent' }),
      registry: createRegistry({ service: 'pdp', processMetrics: false }),
      loadBundle,
      load,
      settingsFile: file,
    });
    return { url: pdp.url, write };
  };

  it('decides with the demo bundle: the person may, her agent may not', async () => {
    const { url } = await start();
    const allowed = await ask(url, HR);
    expect(allowed).toMatchObject({
      status: 200,
      body: { decision: 'allow', audit: { durability: 'spool', boot: '1' } },
    });
    const denied = await ask(url, { ...HR, agent: { type: 'agent', id: 'analytics-agent' } });
    expect(denied).toMatchObject({ status: 200, body: { decision: 'deny' } });
    expect(denied.body.reasons).toContainEqual(expect.objectContaining({ code: 'agent_not_entitled', leg: 'agent' }));
    expect(Number(denied.body.audit?.sequence)).toBe(Number(allowed.body.audit?.sequence) + 1);
    const ready = await fetch(`${url}/health/ready`);
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({ checks: { bundle: { ok: true }, spool: { ok: true } } });
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('edict_spool_used_bytes');
  });

  it('counts what the memo answered', async () => {
    expect(await (await fetch(`${(await start()).url}/metrics`)).text()).not.toContain('edict_memo');
    await pdp?.close();
    writeFileSync(join(directory, 'edict.yaml'), 'home: home\npdp: {listen: "127.0.0.1:0", memo: {enabled: true}}\n');
    pdp = await startPdp(loadSettings({ file: join(directory, 'edict.yaml'), environment: {} }).settings, {
      logger: createLogger({ service: 'pdp', level: 'silent' }),
      registry: createRegistry({ service: 'pdp', processMetrics: false }),
      loadBundle,
    });
    await ask(pdp.url, HR);
    const metrics = await (await fetch(`${pdp.url}/metrics`)).text();
    expect(metrics).toMatch(/edict_memo_misses_total\{[^}]*\} 1\n/);
    expect(metrics).toMatch(/edict_memo_hits_total\{[^}]*\} 0\n/);
    expect(metrics).toMatch(/edict_memo_entries\{[^}]*\} 1\n/);
  });

  it('begins a new boot when it starts again', async () => {
    await ask((await start()).url, HR);
    await pdp?.close();
    expect((await ask((await start()).url, HR)).body.audit?.boot).toBe('2');
  });

  it('takes over new callers and tenants while it runs, and keeps the old ones when the file is bad', async () => {
    const [a, b] = [newApiKey(), newApiKey()];
    const callers = (tenant: string, stored: string): string =>
      `tenants: {default: {}, ${tenant}: {}}\ncallers:\n  - {id: gw, tenant: ${tenant}, requires_agent: false, api_keys: ["${stored}"]}\n`;
    const { url, write } = await start(callers('acme', a.stored));
    expect((await ask(url, HR)).status).toBe(401);
    expect((await ask(url, HR, a.key)).status).toBe(200);
    write(callers('umbrella', b.stored));
    while ((await ask(url, HR, b.key)).status !== 200) await delay(50);
    expect((await ask(url, HR, a.key)).status).toBe(401);
    write('callers: [');
    const failed = async (): Promise<boolean> => {
      const body = (await (await fetch(`${url}/health/ready`)).json()) as {
        readonly checks: { readonly settings: object };
      };
      return 'facts' in body.checks.settings;
    };
    while (!(await failed())) await delay(50);
    expect((await ask(url, HR, b.key)).status).toBe(200);
  });

  it('decides after a restart without its source, and denies when that lasts too long', async () => {
    const source = join(directory, 'mesh.tar.gz');
    copyFileSync(join('bundles', 'mesh.tar.gz'), source);
    const file = join(directory, 'edict.yaml');
    const open = async (): Promise<string> => {
      pdp = await startPdp(loadSettings({ file, environment: {} }).settings, {
        logger: createLogger({ service: 'pdp', level: 'silent' }),
        registry: createRegistry({ service: 'pdp', processMetrics: false }),
        loadBundle,
      });
      return pdp.url;
    };
    writeFileSync(
      file,
      'home: home\npdp: {listen: "127.0.0.1:0", bundles: [mesh.tar.gz], bundle_poll: 50ms, max_staleness: 10s}\n',
    );
    expect((await ask(await open(), HR)).body.decision).toBe('allow');
    await pdp?.close();
    rmSync(source);
    const url = await open();
    expect((await ask(url, HR)).body.decision).toBe('allow');
    expect(await (await fetch(`${url}/v1/bundles`)).json()).toMatchObject({ sets: [{ active: { restored: true } }] });
    await pdp?.close();
    writeFileSync(
      file,
      'home: home\npdp: {listen: "127.0.0.1:0", bundles: [mesh.tar.gz], bundle_poll: 50ms, max_staleness: 1ms}\n',
    );
    const late = await open();
    expect(await ask(late, HR)).toMatchObject({
      status: 200,
      body: { decision: 'deny', reasons: [{ code: 'policy_stale' }] },
    });
    expect(await (await fetch(`${late}/health/ready`)).json()).toMatchObject({
      status: 'unavailable',
      failing: ['bundle'],
      checks: { bundle: { ok: false, facts: { stale: 1, denying: 1 } } },
    });
    expect(await (await fetch(`${late}/v1/bundles`)).json()).toMatchObject({
      sets: [{ active: { stale: true, expired: false, denies: true } }],
    });
    expect(await (await fetch(`${late}/metrics`)).text()).toMatch(/edict_bundle_stale_sets(\{[^}]*\})? 1/);
  });

  it('says of an expired set in one voice that it denies, and is not ready then', async () => {
    const expires = new Date(Date.now() + 2_000).toISOString();
    const bundle = await makeBundle({ rego: answering('ok', true), expiresAt: expires });
    writeFileSync(join(directory, 'expiring.tar.gz'), bundle);
    const { url } = await start('', ', bundles: [expiring.tar.gz], when_stale: serve');
    const shown = async (expired: boolean): Promise<void> => {
      expect(await (await fetch(`${url}/v1/bundles`)).json()).toMatchObject({
        sets: [
          { active: { stale: false, expired, denies: expired, expires, confirmed: expect.any(String) as string } },
        ],
      });
    };
    await shown(false);
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    while (Date.now() < Date.parse(expires)) await delay(50);
    expect(await ask(url, HR)).toMatchObject({ status: 200, body: { reasons: [{ code: 'policy_stale' }] } });
    await shown(true);
    const ready = await fetch(`${url}/health/ready`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toMatchObject({ checks: { bundle: { ok: false, facts: { expired: 1, denying: 1 } } } });
  });

  it('starts with no key for bundles that it cannot read', async () => {
    const file = join(directory, 'edict.yaml');
    writeFileSync(
      file,
      'home: home\npdp: {listen: "127.0.0.1:0", bundle_keys: {ci: {algorithm: ES256, key_file: none.pem}}}\n',
    );
    const options = {
      logger: createLogger({ service: 'pdp', level: 'silent' }),
      registry: createRegistry({ service: 'pdp', processMetrics: false }),
      loadBundle,
    };
    await expect(startPdp(loadSettings({ file, environment: {} }).settings, options)).rejects.toMatchObject({
      code: 'settings_invalid',
    });
  });

  it('answers 503 and is not ready while no bundle could be loaded', async () => {
    const bad = join(directory, 'bad.tar.gz');
    writeFileSync(bad, 'no bundle');
    const file = join(directory, 'edict.yaml');
    writeFileSync(file, `home: home\npdp: {listen: "127.0.0.1:0", bundles: [bad.tar.gz]}\n`);
    pdp = await startPdp(loadSettings({ file, environment: {} }).settings, {
      logger: createLogger({ service: 'pdp', level: 'silent' }),
      registry: createRegistry({ service: 'pdp', processMetrics: false }),
      loadBundle,
    });
    expect(await ask(pdp.url, HR)).toMatchObject({
      status: 503,
      body: { decision: 'deny', reasons: [{ code: 'policy_unavailable' }] },
    });
    const ready = await fetch(`${pdp.url}/health/ready`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toMatchObject({ failing: ['bundle'], decision: 'deny' });
  });

  it('says of a refused bundle which built-ins are missing and where they are used', async () => {
    const rego = `${answering('never', true)}\nlooked_up := net.lookup_ip_addr("localhost")\n`;
    writeFileSync(
      join(directory, 'needy.tar.gz'),
      await makeBundle({ rego: rego.replace('"legs": {', '"legs": {"at": looked_up == set(), '), anyBuiltin: true }),
    );
    const file = join(directory, 'edict.yaml');
    writeFileSync(file, 'home: home\npdp: {listen: "127.0.0.1:0", bundles: [needy.tar.gz], bundle_poll: 50ms}\n');
    pdp = await startPdp(loadSettings({ file, environment: {} }).settings, {
      logger: createLogger({ service: 'pdp', level: 'silent' }),
      registry: createRegistry({ service: 'pdp', processMetrics: false }),
      loadBundle,
    });
    const status = async () => {
      const body = (await (await fetch(`${pdp?.url}/v1/bundles`)).json()) as { sets: { failed?: unknown }[] };
      return body.sets[0]?.failed;
    };
    while ((await status()) === undefined) await delay(20);
    expect(await status()).toMatchObject({
      code: 'bundle_invalid',
      message: expect.stringContaining(
        'net.lookup_ip_addr in data.edict.looked_up (in the bundle: edict/edict.rego:',
      ) as string,
      missing: [
        {
          builtin: 'net.lookup_ip_addr',
          rules: ['data.edict.looked_up'],
          places: [expect.stringMatching(/^edict\/edict\.rego:\d+:14$/)],
        },
      ],
    });
  });

  it('leaves nothing running when the address is taken', async () => {
    const { url } = await start();
    const file = join(directory, 'second.yaml');
    writeFileSync(file, `home: home\npdp: {listen: "${new URL(url).host}"}\n`);
    const { settings } = loadSettings({ file, environment: {} });
    const logger = createLogger({ service: 'pdp', level: 'silent' });
    const registry = createRegistry({ service: 'pdp', processMetrics: false });
    await expect(startPdp(settings, { logger, registry, loadBundle })).rejects.toMatchObject({
      code: 'settings_invalid',
    });
    expect((await ask(url, HR)).status).toBe(200);
  });
});
