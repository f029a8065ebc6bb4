import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSettings, tenantNames } from '../../../services/shared/settings/settings.ts';
import { durationMs, sizeBytes } from '../../../services/shared/settings/units.ts';

const write = (text: string): string => {
  const file = join(mkdtempSync(join(tmpdir(), 'edict-settings-')), 'edict.yaml');
  writeFileSync(file, text);
  return file;
};

const problemsOf = (text: string, services: readonly ('pdp' | 'audit')[] = []): readonly string[] => {
  try {
    loadSettings({ file: write(text), environment: {}, services });
  } catch (error) {
    return (error as { details: { problems: string[] } }).details.problems;
  }
  return [];
};

describe('settings', () => {
  it('are complete without a file', () => {
    const { settings } = loadSettings({ environment: {} });
    expect(settings.pdp.listen).toBe('127.0.0.1:7180');
    expect(settings.spool.reserve).toBe('16MiB');
    expect(tenantNames(settings)).toEqual(['default']);
    expect(Object.isFrozen(settings.pdp)).toBe(true);
  });

  it('take a scalar from the environment variable of its path', () => {
    const { settings } = loadSettings({
      file: write('tenants: { default: { mask_key_file: mask.key } }'),
      environment: { EDICT_PDP_LISTEN: '127.0.0.1:9', EDICT_AUDIT_BATCH: '7', EDICT_KAFKA_BROKERS: 'a:1, b:2' },
    });
    expect(settings.pdp.listen).toBe('127.0.0.1:9');
    expect(settings.audit.batch).toBe(7);
    expect(settings.kafka.brokers).toEqual(['a:1', 'b:2']);
  });

  it('refuse a variable that nothing reads, and name the nearest that there is', () => {
    const problemsIn = (environment: NodeJS.ProcessEnv): readonly string[] => {
      try {
        loadSettings({ environment });
      } catch (error) {
        return (error as { details: { problems: string[] } }).details.problems;
      }
      return [];
    };
    expect(problemsIn({ EDICT_PDP_LISTN: '127.0.0.1:9', EDICT_KAFKA_BROKER: 'a:1', EDICT_HOME: 'h' })).toEqual([
      'EDICT_PDP_LISTN: no setting has this variable; the nearest is EDICT_PDP_LISTEN',
      'EDICT_KAFKA_BROKER: no setting has this variable; the nearest is EDICT_KAFKA_BROKERS',
    ]);
    expect(problemsIn({ EDICT_PDP_PORT: '7180' })).toHaveLength(1);
    expect(problemsIn({ ['EDICT_' + 'x'.repeat(100_000)]: '' })[0]?.length).toBeLessThan(300);
  });

  it('let through what tools, tests and Kubernetes put into the environment', () => {
    const environment = {
      EDICT_OPA: 'opa',
      EDICT_DEBUG: '',
      EDICT_TEST_KEEP: '1',
      EDICT_HEALTH_URL: 'http://127.0.0.1:7180/health/ready',
      EDICT_PDP_SERVICE_HOST: '10.0.0.1',
      EDICT_PDP_SERVICE_PORT_HTTP: '7180',
      EDICT_PDP_PORT: 'tcp://10.0.0.1:7180',
      EDICT_PDP_PORT_7180_TCP_ADDR: '10.0.0.1',
      EDICTAL: 'x',
    };
    expect(() => loadSettings({ environment })).not.toThrow();
  });

  it('know no limit of input above that of the contract', () => {
    const text = 'pdp: { input: { max: 257KiB } }\ntenants: { acme: { input: { max: 1MiB, depth: 65 } }, globex: {} }';
    expect(problemsOf(text)).toEqual([
      '/tenants/acme/input/depth: must be <= 64',
      '/pdp/input/max: is above 256KiB',
      '/tenants/acme/input/max: is above 256KiB',
    ]);
  });

  it('keep payloads for 183 days at least, unless they say that less is wanted', () => {
    const problems = (audit: string) => problemsOf(`audit: { ${audit} }`);
    expect(problems('retention: 183d')).toEqual([]);
    expect(problems('retention: 30d, retention_below_floor: true')).toEqual([]);
    expect(problems('retention: 182d')).toEqual([expect.stringContaining('/audit/retention: 182d is below 183d')]);
    expect(problems('retention: 12h, retention_below_floor: true')).toEqual([
      expect.stringContaining('is no number of days'),
    ]);
  });

  it('name all problems together, each with its pointer', () => {
    const problems = problemsOf('pdp: { lissten: x, durability: never }\nspool: { max: 12Mb }\nnope: 1\n');
    expect(problems.join('\n')).toMatch(/\/pdp: unknown key lissten/);
    expect(problems.join('\n')).toMatch(/\/pdp\/durability/);
    expect(problems.join('\n')).toMatch(/\/spool\/max/);
    expect(problems.join('\n')).toMatch(/\/: unknown key nope/);
  });

  it('name the faults between members beside those of the schema, and make none up', () => {
    const key = `abcdefghijkl$sha256$${'s'.repeat(22)}$${'h'.repeat(43)}`;
    const problems = problemsOf(
      JSON.stringify({
        nope: 1,
        pdp: { listen: '127.0.0.1:70000', durability: 'broker' },
        audit: { batch: 'many', listen: '127.0.0.1:99999' },
        // Whether there is a broker is not known, so nothing is said that depends on it.
        kafka: { brokers: 5 },
        database: { writer_url_file: 'w' },
        spool: { reserve: '2GiB' },
        tenants: { acme: { nope: 1 }, globex: null },
        callers: [
          { id: 'a', tenant: 'other', api_keys: [key] },
          { id: 'a', api_keys: 5 },
          { id: 'b', tenant: 'nobody', api_keys: [key, 'short'] },
          7,
        ],
      }),
    );
    const sorted = (texts: readonly string[]): readonly string[] =>
      [...texts].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    expect(sorted(problems.map((problem) => problem.split(': ')[0] ?? ''))).toEqual(
      sorted([
        '/',
        '/pdp/listen',
        '/audit/batch',
        '/audit/listen',
        '/kafka/brokers',
        '/database/reader_url_file',
        '/database/keys_url_file',
        '/audit/master_key_file',
        '/ledger/authority',
        '/spool/reserve',
        '/tenants/acme',
        '/tenants/globex',
        '/callers',
        '/callers',
        '/callers/0/tenant',
        '/callers/1',
        '/callers/1/api_keys',
        '/callers/2/tenant',
        '/callers/2/api_keys/1',
        '/callers/3',
      ]),
    );
  });

  it('are checked against the machine of the service that starts with them, whole', () => {
    const text = JSON.stringify({
      pdp: { listen: '0.0.0.0:7180' },
      audit: { listen: '127.0.0.1:7180', master_key_file: 'master.key', ack_vkey_files: ['ack.vkey'] },
      tenants: { acme: { mask_key_file: 'mask.key' }, globex: { mask_key_file: '.' } },
    });
    const url = 'https://a.example/b';
    const source = { url, bearer_token_file: 'token', tls: { ca_file: 'ca.pem', cert_file: 'cert', key_file: '.' } };
    const ofServers = JSON.stringify({ pdp: { bundles: ['b', source] }, tenants: { acme: { bundles: [source] } } });
    const lacking = ['/pdp/bundles/1', '/tenants/acme/bundles/0'].flatMap((at) => [
      expect.stringMatching(`^${at}/bearer_token_file: .*token cannot be read`),
      expect.stringMatching(`^${at}/tls/ca_file: .*ca.pem cannot be read`),
      expect.stringMatching(`^${at}/tls/cert_file: .*cert cannot be read`),
      expect.stringMatching(`^${at}/tls/key_file: .* is a folder`),
    ]) as string[];
    expect(problemsOf(ofServers, ['pdp'])).toEqual(lacking);
    expect(problemsOf(ofServers, ['audit'])).toEqual([]);
    const masks = [/^\/tenants\/acme\/mask_key_file: .*mask\.key cannot be read \(ENOENT\)$/, /globex.*is a folder$/];
    const expectProblems = (services: readonly ('pdp' | 'audit')[], expected: readonly RegExp[]): void => {
      const problems = problemsOf(text, services);
      for (const each of expected) expect(problems).toContainEqual(expect.stringMatching(each));
      expect(problems).toHaveLength(expected.length);
    };
    const port = /^\/audit\/listen: 127\.0\.0\.1:7180 is taken by \/pdp\/listen$/;
    const open = /^\/pdp\/listen: 0\.0\.0\.0:7180 can be reached from other machines/;
    expectProblems([], [port]);
    expectProblems(['pdp'], [port, open, ...masks, /^\/audit\/ack_vkey_files\/0: .*ENOENT/]);
    expectProblems(['audit'], [port, ...masks, /^\/audit\/master_key_file: .*ENOENT/]);
    expectProblems(['pdp', 'audit'], [port, open, ...masks, /ack_vkey_files/, /master_key_file/]);
  });

  it('name a key of another length', () => {
    const file = write('tenants: { acme: { mask_key_file: mask.key } }\n');
    writeFileSync(join(file, '..', 'mask.key'), Buffer.alloc(31));
    expect(() => loadSettings({ file, environment: {}, services: ['pdp'] })).toThrow(
      /\/tenants\/acme\/mask_key_file: .* has 31 bytes, not 32/,
    );
  });

  it.each([
    ['the same address', '127.0.0.1:7180', true],
    ['another name of it', 'localhost:7180', true],
    ['every address', '[::]:7180', true],
    ['any free port', '127.0.0.1:0', false],
    ['another port', '127.0.0.1:7181', false],
  ])('refuse one port for both services: %s', (_name, listen, isRefused) => {
    const port = listen.endsWith(':0') ? '127.0.0.1:0' : '127.0.0.1:7180';
    const text = (members: object): string => JSON.stringify({ pdp: { listen: port }, audit: { listen }, ...members });
    expect(problemsOf(text({})).length > 0).toBe(isRefused);
    // With a broker the two may be on two machines.
    const tenants = { default: { mask_key_file: 'mask.key' } };
    expect(problemsOf(text({ kafka: { brokers: ['a:1'] }, tenants }))).toEqual([]);
  });

  it('name the file in which aliases multiply', () => {
    const bomb = [
      'a: &a [x, x, x, x, x, x, x, x, x, x]',
      ...'bcdef'.split('').map((name, n) => {
        const below = 'abcdef'[n];
        return `${name}: &${name} [${Array.from({ length: 10 }, () => `*${below}`).join(', ')}]`;
      }),
    ].join('\n');
    const file = write(bomb);
    expect(() => loadSettings({ file, environment: {} })).toThrow(
      expect.objectContaining({ code: 'settings_invalid', message: expect.stringContaining(file) as string }),
    );
  });

  it.each([
    ['a caller of an unknown tenant', 'callers: [{id: a, tenant: acme, api_keys: [%]}]', /acme is not in/],
    ['a doubled key', 'home: a\nhome: b\n', /unique/i],
    ['a tenant name that is none', 'tenants: { Acme: {} }', /tenants/],
    ['broker durability without a broker', 'pdp: {durability: broker}', /needs kafka/],
    ['a writer without its companions', 'database: {writer_url_file: w}', /reader_url_file: required/],
    ['a broker without a shared masking key', 'kafka: {brokers: [a:1]}', /\/tenants\/default\/mask_key_file: required/],
    [
      'a broker and a tenant without one',
      'kafka: {brokers: [a:1]}\ntenants: {a: {mask_key_file: m}, b: {}}',
      /^\/tenants\/b\/mask_key_file: required.*$/,
    ],
    ['signatures without keys', 'pdp: {bundles: [{path: a, signing: {}}]}', /bundles\/0\/signing: needs/],
    [
      'a bundle key that is not there',
      'pdp: {bundle_keys: {a: {algorithm: ES256, key_file: a}}}\ntenants: {acme: {bundles: [{path: a, signing: {keys: [b]}}]}}',
      /\/tenants\/acme\/bundles\/0\/signing\/keys: b is not in/,
    ],
    ['a bundle key without an algorithm', 'pdp: {bundle_keys: {a: {key_file: a}}}', /bundle_keys\/a/],
    ['a bundle key for none', 'pdp: {bundle_keys: {a: {algorithm: none, key_file: a}}}', /bundle_keys\/a\/algorithm/],
    ['a bundle key of no name', 'pdp: {bundle_keys: {"": {algorithm: ES256, key_file: a}}}', /bundle_keys/],
    ['a source with a misspelt member', 'pdp: {bundles: [{path: a, sigining: {}}]}', /bundles\/0/],
    [
      'a source of two kinds',
      'pdp: {bundles: [{path: a, url: "https://a/"}]}',
      /^\/pdp\/bundles\/0: needs either path or url/,
    ],
    ['a source of no kind', 'pdp: {bundles: [{unsigned: true}]}', /^\/pdp\/bundles\/0: needs either path or url/],
    ['a pause of a file', 'pdp: {bundles: [{path: a, poll: 1s}]}', /bundles\/0\/poll: is for url only/],
    ['clear text without signatures', 'pdp: {bundles: [{url: "http://a.example/b"}]}', /http is for signed/],
    [
      'a token in clear text',
      'pdp: {bundle_keys: {a: {algorithm: ES256, key_file: a}}, bundles: [{url: "http://a.example/b", bearer_token_file: t}]}',
      /clear text/,
    ],
    ['secrets in a URL', 'pdp: {bundles: [{url: "https://u:p@a.example/b?sig=1"}]}', /secrets stand in files/],
    ['a URL of another kind', 'pdp: {bundles: [{url: "ftp://a.example/b"}]}', /only https and http/],
    ['half a client certificate', 'pdp: {bundles: [{url: "https://a/b", tls: {cert_file: c}}]}', /belong together/],
    ['a size beyond what is read', 'pdp: {bundles: [{url: "https://a/b", max_size: 33MiB}]}', /max_size/],
    ['a source that stands twice', 'pdp: {bundles: [a, {path: a}]}', /bundles\/1: stands there twice/],
    [
      'a value that is none of its list',
      'pdp: {durability: never}',
      /durability: must be one of memory, spool, disk, broker$/,
    ],
    ['a size in other units', 'spool: {max: 12Mb}', /\/spool\/max: must be a size: .* 64MiB$/],
    ['a number for a duration', 'pdp: {body_timeout: 5}', /\/pdp\/body_timeout: must be a duration: .* 5s$/],
    ['a listener without a port', 'pdp: {listen: localhost}', /\/pdp\/listen: must be an address and a port/],
    ['a quota in other units', 'tenants: {a: {spool_quota: much}}', /\/tenants\/a\/spool_quota: must be a size/],
    ['a segment larger than its spool', 'spool: {segment: 2GiB}', /^\/spool\/segment: 2GiB is more than .*1GiB$/],
    ['a number that is text', 'audit: {batch: many}', /\/audit\/batch/],
  ])('refuse %s', (_name, text, expected) => {
    const key = `abcdefghijkl$sha256$${'s'.repeat(22)}$${'h'.repeat(43)}`;
    expect(problemsOf(text.replace('%', key)).join('\n')).toMatch(expected);
  });

  it('resolve paths against the file that names them', () => {
    const file = write('home: state\npdp: { bundles: [a.tar.gz] }\n');
    const { settings } = loadSettings({ file, environment: {} });
    expect(settings.home).toBe(join(file, '..', 'state'));
    expect(settings.pdp.bundles).toEqual([join(file, '..', 'a.tar.gz')]);
    const signed = write('pdp: {bundle_keys: {a: {algorithm: ES256, key_file: a.pem}}, bundles: [{path: a.tar.gz}]}\n');
    const { pdp } = loadSettings({ file: signed, environment: {} }).settings;
    expect(pdp.bundle_keys).toEqual({ a: { algorithm: 'ES256', key_file: join(signed, '..', 'a.pem') } });
    expect(pdp.bundles).toEqual([{ path: join(signed, '..', 'a.tar.gz') }]);
    const source = (folder = '') => ({
      url: 'https://a.example/b',
      bearer_token_file: join(folder, 'token'),
      tls: { ca_file: join(folder, 'ca.pem') },
    });
    const served = write(JSON.stringify({ pdp: { bundles: [source()] }, tenants: { a: { bundles: [source()] } } }));
    const ofServers = loadSettings({ file: served, environment: {} }).settings;
    const expected = [source(join(served, '..'))];
    expect(ofServers.pdp.bundles).toEqual(expected);
    expect(ofServers.tenants['a']?.bundles).toEqual(expected);
  });

  it('leave the properties of a caller as they are, whatever their names', () => {
    const key = `abcdefghijkl$sha256$${'s'.repeat(22)}$${'h'.repeat(43)}`;
    const properties = { home: 'berlin', bundles: ['a'], case_file: 'x', nested: { home: 'y' } };
    const file = write(
      JSON.stringify({ tenants: { acme: {} }, callers: [{ id: 'gw', tenant: 'acme', api_keys: [key], properties }] }),
    );
    expect(loadSettings({ file, environment: {} }).settings.callers[0]?.properties).toEqual(properties);
  });

  it('read sizes and durations', () => {
    expect(sizeBytes('16MiB')).toBe(16 * 1024 * 1024);
    expect(durationMs('24h')).toBe(86_400_000);
  });
});
