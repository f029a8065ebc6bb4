import { Type, type Static, type TProperties } from 'typebox';
import { SIGNATURE_ALGORITHMS } from '../contracts/signature-algorithms.ts';
import { fuelRange, inputRanges, OptionalLimits } from './policy-limits.ts';
import { DURATION_PATTERN, SIZE_PATTERN } from './units.ts';

const strict = { additionalProperties: false } as const;
const section = <P extends TProperties>(properties: P, description: string) =>
  Type.Object(properties, { ...strict, default: {}, description });

const Size = (value: string, description: string) =>
  Type.String({ pattern: SIZE_PATTERN, default: value, description });
const Duration = (value: string, description: string) =>
  Type.String({ pattern: DURATION_PATTERN, default: value, description });
export const LISTEN_PATTERN = '^(\\[[0-9a-fA-F:]+\\]|[^:\\s]+):\\d{1,5}$';
const Listen = (value: string, description: string) =>
  Type.String({ pattern: LISTEN_PATTERN, default: value, description });
const File = (description: string) => Type.Optional(Type.String({ minLength: 1, description }));
const Dir = (description: string) => Type.Optional(Type.String({ minLength: 1, description }));
const Files = (description: string) => Type.Array(Type.String({ minLength: 1 }), { default: [], description });
const Tenant = Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$' });
const Pointer = Type.String({ pattern: '^(/([^/~]|~[01])*)+$' });

export const Caller = Type.Object(
  {
    id: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$', description: 'Stands in events and metrics.' }),
    tenant: Tenant,
    roles: Type.Array(Type.Enum(['decide', 'audit', 'operate', 'data', 'erase']), {
      default: ['decide'],
      description:
        'decide: /decide; audit: the ledger of its tenant; operate: metrics, bundles, emitters, retention; ' +
        'data: /v1/data; erase: requests for erasure and approves them.',
    }),
    api_keys: Type.Array(
      Type.String({
        pattern: '^[a-z0-9]{12}\\$sha256\\$[A-Za-z0-9_-]{22,64}\\$[A-Za-z0-9_-]{43}$',
        description: 'What `edict keys new` prints: key id, salt and salted hash. The key itself stands nowhere.',
      }),
      { minItems: 1, maxItems: 2 },
    ),
    requires_agent: Type.Boolean({ default: true, description: 'A request without `agent` is refused.' }),
    believe_unverified: Type.Boolean({
      default: true,
      description: 'Attributes that this caller states count as verified. False: the policy sees them as claims.',
    }),
    properties: Type.Record(Type.String(), Type.Unknown(), { default: {}, description: '`input.caller.properties`.' }),
    rate_per_s: Type.Optional(
      Type.Integer({ minimum: 1, description: 'Decisions a second, shared equally by pdp.workers; above it 429.' }),
    ),
  },
  strict,
);
export type Caller = Static<typeof Caller>;

const OptionalDuration = (description: string) =>
  Type.Optional(Type.String({ pattern: DURATION_PATTERN, description }));
export const KEY_ID = '^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$';
const Scope = (description: string) => Type.Optional(Type.String({ maxLength: 256, description }));

const BundleKeySettings = Type.Object(
  {
    algorithm: Type.Enum([...SIGNATURE_ALGORITHMS], {
      description: 'The only algorithm that counts, whatever a signature says of itself.',
    }),
    key_file: Type.String({
      minLength: 1,
      description: 'Public key or certificate (PEM); for HS256 to HS512 the secret. Read again at each load.',
    }),
    scope: Scope('The scope that its signatures must have, where the source names none.'),
  },
  strict,
);

const BundleSourceSettings = Type.Object(
  {
    path: Type.Optional(
      Type.String({ minLength: 1, description: 'An archive, or a folder of archives (`*.tar.gz`).' }),
    ),
    url: Type.Optional(
      Type.String({
        maxLength: 2048,
        description:
          'In place of path: a server of OPA’s bundle API. `http:` only on loopback, or for signed bundles, then ' +
          'without a token.',
      }),
    ),
    bearer_token_file: File('Sent to the server of url. Read again at each request.'),
    tls: Type.Optional(
      Type.Object(
        { ca_file: File('PEM. Default: the usual authorities.'), cert_file: File('PEM'), key_file: File('PEM') },
        { ...strict, description: 'Of url; certificate and key for mutual TLS. Read again at each request.' },
      ),
    ),
    poll: OptionalDuration('Of url: the longest pause between two requests; half of it at least. Default: 30s.'),
    long_poll: OptionalDuration('Of url: the server may hold a request that long. Default: no long polling.'),
    timeout: OptionalDuration('Of url: for an answer’s head, and again for its body. Default: 30s.'),
    max_size: Type.Optional(
      Type.String({ pattern: SIZE_PATTERN, description: 'Of url: more is not read. Default and most: 32MiB.' }),
    ),
    redirects: Type.Optional(
      Type.Enum(['never', 'same_origin'], { description: 'Of url: what is followed. Default: never.' }),
    ),
    signing: Type.Optional(
      Type.Object(
        {
          keys: Type.Optional(
            Type.Array(Type.String({ pattern: KEY_ID }), {
              minItems: 1,
              description: 'Which of `pdp.bundle_keys` may sign; one: it decides whatever `kid` says. Default: all.',
            }),
          ),
          scope: Scope('Exactly this scope. Default: that of the key, else none.'),
        },
        { ...strict, description: 'Present, also when empty: only signed bundles. The default once there are keys.' },
      ),
    ),
    unsigned: Type.Optional(
      Type.Boolean({ description: 'True: no signature is looked at, although `pdp.bundle_keys` are set.' }),
    ),
  },
  strict,
);
export type BundleSourceSettings = Static<typeof BundleSourceSettings>;
const Bundles = Type.Union([Type.String({ minLength: 1 }), BundleSourceSettings]);

const FuelPerSecond = (description: string) =>
  Type.Integer({ minimum: 1_000, maximum: 1_000_000_000_000, description });

const TenantSettings = Type.Object(
  {
    bundles: Type.Optional(
      Type.Array(Bundles, { minItems: 1, description: 'A set of its own; as `pdp.bundles`, and as strict.' }),
    ),
    mask_key_file: File('32 random bytes, the same for all PDPs and the audit service. Required with kafka.brokers.'),
    spool_quota: Type.Optional(Type.String({ pattern: SIZE_PATTERN, description: 'Default: spool.tenant_quota.' })),
    fuel_per_second: Type.Optional(FuelPerSecond('Default: pdp.fuel_per_second.')),
    ...OptionalLimits,
  },
  strict,
);

/** `edict.yaml`, whole. Secrets never stand in it, only the paths of the files that hold them. */
export const SettingsSchema = Type.Object(
  {
    home: Type.String({ default: '.edict', description: 'Spool, embedded database, journal, generated keys.' }),
    log: section(
      {
        level: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], { default: 'info' }),
      },
      'Logging, one JSON line an event.',
    ),
    pdp: section(
      {
        listen: Listen('127.0.0.1:7180', '`/decide` and its neighbours.'),
        allowed_hosts: Type.Array(Type.String(), {
          default: [],
          description: '`Host` names accepted besides localhost and the listening address, when no callers are set.',
        }),
        bundles: Type.Array(Bundles, {
          default: [],
          description:
            'One set for all tenants without their own: files, folders, or mappings. Empty: the demo bundle.',
        }),
        bundle_keys: Type.Record(Type.String(), BundleKeySettings, {
          default: {},
          description: 'Who may sign bundles, by key id. Once one is set, unsigned bundles are refused.',
        }),
        bundle_poll: Duration('1s', 'How often bundle files are looked at; for servers see pdp.bundles[].poll.'),
        bundle_load_max: Duration(
          '5m',
          'How long one bundle may take to load; 50 MB of data take 10 s where a core is free.',
        ),
        max_staleness: OptionalDuration('How long a set may decide that its sources do not confirm. None: for ever.'),
        when_stale: Type.Enum(['deny', 'flag', 'serve'], {
          default: 'deny',
          description: 'After it: deny, say `policy_stale` in each answer, or show it to operators only.',
        }),
        durability: Type.Enum(['memory', 'spool', 'disk', 'broker'], {
          default: 'spool',
          description: 'What an answer waits for.',
        }),
        durability_timeout: Duration('5s', 'How long an answer may wait for it before it becomes 503.'),
        mask: Type.Array(Pointer, { default: [], description: 'JSON pointers of what events hold only as HMAC.' }),
        workers: Type.Integer({
          default: 1,
          minimum: 1,
          maximum: 32,
          description: 'Processes that decide, each with an emitter and a spool of its own; one a core at most.',
        }),
        max_in_flight: Type.Integer({
          default: 1024,
          minimum: 1,
          maximum: 65_536,
          description: 'Of each worker; above it 503.',
        }),
        max_connections: Type.Integer({ default: 4096, minimum: 1, maximum: 65_536, description: 'Of each worker.' }),
        body_timeout: Duration('5s', 'How long a body may take; then 408.'),
        data_max: Size('1MiB', 'Pushed data of one tenant, as JSON; the same on all PDPs. At most 4MiB.'),
        data_wait: Duration('1s', 'How long a request waits for the data revision in its `at_least`; then a deny.'),
        policy_memory: Size('64MiB', 'The most memory that one policy instance may take.'),
        policy_result: Size('1MiB', 'The most that one evaluation may give, as JSON; more is `policy_output_invalid`.'),
        input: section(
          {
            max: Size('256KiB', 'Of its body, or of an item of a batch; above it 413. At most 256KiB.'),
            depth: Type.Integer({
              ...inputRanges.depth,
              default: inputRanges.depth.maximum,
              description: 'Objects and lists inside each other.',
            }),
            members: Type.Integer({
              ...inputRanges.members,
              default: inputRanges.members.maximum,
              description: 'Of all its objects together.',
            }),
          },
          'What one request may be.',
        ),
        engines: section(
          {
            max: Type.Integer({
              default: 256,
              minimum: 1,
              maximum: 4_096,
              description: 'Tenants that have an engine at once; the one not used for longest gives its up.',
            }),
            memory_max: Size('1GiB', 'What all engines have together; an evaluation may add one pdp.policy_memory.'),
            wait: Duration('2s', 'How long a request waits for an engine that takes long to make; then 503.'),
          },
          'One engine for each tenant, made at its first request.',
        ),
        fuel: Type.Integer({
          ...fuelRange,
          default: 1_000_000,
          description:
            'The most units that one evaluation may take, some nanoseconds each, beyond reading its input; more is ' +
            '`policy_fuel`.',
        }),
        fuel_per_second: Type.Integer({
          ...FuelPerSecond(
            'What the evaluations of one tenant may take together; above it 429. A million units of honest work are ' +
              'about a millisecond, so this is half a core.',
          ),
          default: 500_000_000,
        }),
        memo: section(
          {
            enabled: Type.Boolean({
              default: false,
              description:
                'Whether answers are remembered and given again to requests that the policy cannot tell apart.',
            }),
            max_entries: Type.Integer({ default: 10_000, minimum: 1, maximum: 10_000_000 }),
            max_bytes: Size('16MiB', 'What the answers of all tenants may take together, roughly.'),
          },
          'Remembered answers.',
        ),
      },
      'The policy decision point.',
    ),
    spool: section(
      {
        segment: Size('64MiB', 'Size of one segment file.'),
        max: Size('1GiB', 'All segments of one emitter; when they are full, decisions are denied.'),
        tenant_quota: Size('512MiB', 'What one tenant may have in the spool.'),
        reserve: Size('16MiB', 'Kept for start, heartbeat, final, refusals and lost events.'),
        keep: Duration('24h', 'How long covered segments are kept while there is room: the backup interval.'),
        sync: Duration('5ms', 'Group commit: the longest time between two syncs to disk.'),
      },
      'The emitter’s local log.',
    ),
    audit: section(
      {
        listen: Listen('127.0.0.1:7181', 'Ledger and queries.'),
        allowed_hosts: Type.Array(Type.String(), { default: [] }),
        ack_vkey_files: Files('Verifier keys of the audit services whose acknowledgements a PDP believes.'),
        ack_key_file: File('Private key for acknowledgements (PEM). Default: made in home/keys.'),
        master_key_file: File('32 random bytes that wrap the keys of data subjects. Embedded: made in home/keys.'),
        gap_grace: Duration('60s', 'How long a missing number may stay away before it becomes a gap entry.'),
        batch: Type.Integer({ default: 1_000, minimum: 1, maximum: 5_000, description: 'Events in one transaction.' }),
        seal_interval: Duration(
          '5s',
          'How often logs with new entries get a seal, so that a checkpoint can be signed.',
        ),
        erasure_expiry: Duration('7d', 'How long a request for erasure waits for its second approval.'),
        copies: Type.Array(Type.String({ minLength: 1, maxLength: 200 }), {
          default: [],
          maxItems: 50,
          description:
            'Where else events are kept (SIEM, backups and for how long …): named in every erasure entry, so that ' +
            'their keepers are told.',
        }),
        retention: OptionalDuration(
          'How long payloads are kept, in days: at least 183d. `edict audit retain` drops older ones. None: for ever.',
        ),
        retention_below_floor: Type.Boolean({
          default: false,
          description: 'Periods below 183 days, where no law asks for more. `edict migrate` tells the database.',
        }),
      },
      'The audit service.',
    ),
    signer: section(
      {
        interval: Duration('1s', 'How often it looks for seals that no checkpoint covers.'),
        keys_dir: Dir('Private keys of the ledgers, `<tenant>-<incarnation>.pem`. Default: home/keys/ledger.'),
        memory_dir: Dir('What it signed, one file a log; never on the database’s machine. Default: home/signer.'),
        witness_policy_file: File(
          'C2SP tlog-policy: witnesses (with addresses) that are asked to cosign the meta log, and their quorum.',
        ),
        witness_timeout: Duration('5s', 'How long a witness is waited for.'),
        listen: Type.Optional(
          Type.String({
            pattern: LISTEN_PATTERN,
            description: 'Loopback address of `/health` and `/metrics`. None: it listens nowhere.',
          }),
        ),
      },
      'Signs checkpoints, in a process of its own.',
    ),
    tripwire: section(
      {
        slot: Type.String({
          pattern: '^[a-z0-9_]{1,63}$',
          default: 'edict_tripwire',
          description: 'Its replication slot; another one for each ledger on the same server.',
        }),
        max_lag: Size('256MiB', 'Write-ahead log that it has not read; readiness is red above it.'),
        memory_file: File('How far it has watched; not on the database’s machine. Default: under home.'),
        listen: Type.Optional(
          Type.String({
            pattern: LISTEN_PATTERN,
            description: 'Loopback address of `/health` and `/metrics`. None: it listens nowhere.',
          }),
        ),
      },
      'Watches the write-ahead log for changes that no program makes, in a process of its own.',
    ),
    kafka: section(
      {
        brokers: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          description: 'None: the audit service reads the spool itself, on one machine.',
        }),
        tls: Type.Optional(
          Type.Object(
            { ca_file: File('PEM'), cert_file: File('PEM'), key_file: File('PEM, for mutual TLS') },
            { ...strict, description: 'Present, also when empty: TLS.' },
          ),
        ),
        sasl: Type.Optional(
          Type.Object(
            {
              mechanism: Type.Enum(['plain', 'scram-sha-256', 'scram-sha-512']),
              username: Type.String(),
              password_file: Type.String(),
            },
            strict,
          ),
        ),
        partitions: Type.Integer({ default: 3, minimum: 1, maximum: 512, description: 'For topics made by migrate.' }),
        replication: Type.Integer({ default: 3, minimum: 1, maximum: 9, description: 'For topics made by migrate.' }),
      },
      'Between PDPs and the audit service.',
    ),
    database: section(
      {
        owner_url_file: File('For `edict migrate` and `edict ledger create`; not needed while serving.'),
        writer_url_file: File('Inserts entries.'),
        reader_url_file: File('Answers queries.'),
        signer_url_file: File('Signs checkpoints.'),
        maintainer_url_file: File('Drops payloads; required with audit.retention.'),
        tripwire_url_file: File('Watches the write-ahead log; the login needs REPLICATION, and no pooler in between.'),
        pooler: Type.Boolean({
          default: false,
          description:
            'A pooler in transaction mode (PgBouncer) stands before the server: statements stay unnamed, and nothing is ' +
            'set for longer than a transaction.',
        }),
        keys_url_file: File('The store of payload keys; best on a server of its own.'),
      },
      'Postgres. Without `writer_url_file`: an embedded one under home.',
    ),
    ledger: section(
      {
        authority: Type.Optional(
          Type.String({
            pattern: '^[a-z0-9][a-z0-9.-]{0,199}$',
            description: 'First part of every log’s origin. Embedded: made at the first start.',
          }),
        ),
        blind_tenants: Type.Boolean({ default: false, description: 'Origins show an HMAC in place of the tenant.' }),
        blind_key_file: File('The key of that HMAC, 32 random bytes. Embedded: made in home/keys.'),
      },
      'Fixed when a ledger is created.',
    ),
    callers: Type.Array(Caller, { default: [], description: 'None: loopback only, one development caller.' }),
    tenants: Type.Record(Type.String(), TenantSettings, {
      default: {},
      description: 'Empty: one tenant, `default`.',
    }),
    emitters: Type.Array(Type.String({ pattern: '^[0-9a-f]{32}$' }), {
      default: [],
      description: 'When set, events of other emitters are quarantined.',
    }),
  },
  strict,
);
export type Settings = Static<typeof SettingsSchema>;
