/** A ledger in a real Postgres: two tenants, one emitter, decisions of several people. Cloned for each test. */
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fromHex, hex, sha256, ZERO_DIGEST } from '../../../services/shared/contracts/bytes.ts';
import { EVENT_CONTENT_TYPE, signEvent } from '../../../services/shared/contracts/events.ts';
import { isObject } from '../../../services/shared/contracts/json.ts';
import { emitterId, formatVkey, parseVkey, signingKeyFromPem } from '../../../services/shared/contracts/signatures.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import type { Log, NewEntry, WriteLedger } from '../../../services/audit/core/append.ts';
import type { EntryKind } from '../../../services/audit/core/entry.ts';
import { describeDecision, tenantSubject } from '../../../services/audit/core/ingest-search.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import { createSearchNames } from '../../../services/audit/core/pseudonym.ts';
import { createSealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import { createPostgresPayloadKeys } from '../../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../../services/audit/postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../../services/audit/postgres/migrate.ts';
import { META_KEY } from '../../../services/audit/core/meta-log.ts';
import { createSignerStore } from '../../../services/audit/postgres/meta-store.ts';
import { openMemoryFolder } from '../../../services/audit/signer/memory-file.ts';
import { createSignerMetrics } from '../../../services/audit/signer/metrics.ts';
import { createSigner } from '../../../services/audit/signer/signer.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { silent } from '../ingest/fixtures.ts';
import type { DatabaseTemplate } from '../../support/postgres.ts';

export const MASTER_KEY = Buffer.alloc(32, 7);
export const MASK_KEY = Buffer.alloc(32, 9);
export const searchNames = createSearchNames(MASTER_KEY);
/** The key of RFC 8032, section 7.1, test 1. */
const EMITTER_KEY = signingKeyFromPem(
  `-----BEGIN PRIVATE KEY-----\n${Buffer.concat([
    fromHex('302e020100300506032b657004220420'),
    fromHex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'),
  ]).toString('base64')}\n-----END PRIVATE KEY-----\n`,
);
export const EMITTER = emitterId(EMITTER_KEY.publicKey);
const SET = hex(sha256('set'));
export const START_MS = Date.UTC(2026, 0, 1);

type Members = Readonly<Record<string, unknown>>;

/** Numbers, links and stores events as emitter and ingest do. */
export const createFeeder = (write: WriteLedger, log: Log) => {
  let number = 0n;
  let previous: Uint8Array = ZERO_DIGEST;
  const prepare = (kind: EntryKind, type: string, members: Members, signed: boolean): NewEntry => {
    number += 1n;
    const timeMs = START_MS + Number(number) * 1000;
    const id = newUuidV7(timeMs);
    const answer = isObject(members['answer']) ? { answer: { ...members['answer'], decision_id: id } } : {};
    const unsigned = {
      specversion: '1.0',
      id,
      source: EMITTER,
      type,
      time: new Date(timeMs).toISOString(),
      datacontenttype: 'application/json',
      data: {
        schema_version: 1,
        nonce: hex(sha256(id)).slice(0, 32),
        tenant: log.tenant,
        emitter: { id: EMITTER, boot: '1', sequence: String(number), previous: hex(previous) },
        ...members,
        ...answer,
      },
    };
    const event = signed
      ? { ...unsigned, data: { ...unsigned.data, signature: signEvent(EMITTER_KEY, unsigned) } }
      : unsigned;
    const payload = Buffer.from(JSON.stringify(event));
    previous = sha256(payload);
    const described = kind === 'decision' ? describeDecision(event.data, id, timeMs, log.tenant) : undefined;
    return {
      kind,
      eventId: id,
      topic: `spool/${EMITTER}`,
      partition: 0,
      offset: number,
      emitter: EMITTER,
      boot: 1n,
      emitterSeq: number,
      policySetDigest: kind === 'decision' ? fromHex(SET) : ZERO_DIGEST,
      contentType: EVENT_CONTENT_TYPE,
      payload,
      subject: described?.subject ?? tenantSubject(log.tenant),
      ...(described === undefined ? {} : { search: described.search }),
    };
  };
  return {
    decision: (members: Members): NewEntry =>
      prepare(
        'decision',
        'edict.decision.v1',
        { caller: { id: 'gw-1' }, policy: { set: `sha256:${SET}` }, ...members },
        false,
      ),
    heartbeat: (): NewEntry => prepare('heartbeat', 'edict.heartbeat.v1', { state: 'active' }, true),
    start: (): NewEntry =>
      prepare(
        'emitter',
        'edict.start.v1',
        { public_key: EMITTER_KEY.publicKey.toString('base64'), software: 'edict' },
        true,
      ),
    store: (entries: readonly NewEntry[]): Promise<bigint> =>
      write(async ({ sql, append }) => {
        const first = await append(log, entries);
        for (const [index, entry] of entries.entries())
          await sql.query(
            `with row as (
               insert into edict.received (log_id, event_id, digest, emitter, boot, number, seq)
               values ($1::int, $2::uuid, $3::bytea, $4::text, $5::text::numeric, $6::text::numeric, $7::bigint)),
             heard as (
               insert into edict.emitter (emitter, public_key, attested, first_seen_us, last_seen_us)
               values ($4::text, $8::bytea, true, 0, 0) on conflict do nothing)
             insert into edict.stream (log_id, emitter, boot, complete_to, highest, covered_to, last_ingest_us)
             values ($1::int, $4::text, $5::text::numeric, $6::text::numeric, $6::text::numeric, $6::text::numeric, 0)
             on conflict (log_id, emitter, boot) do update
             set complete_to = excluded.highest, highest = excluded.highest, covered_to = excluded.highest`,
            [
              log.id,
              entry.eventId,
              sha256(entry.payload),
              entry.emitter,
              String(entry.boot),
              String(entry.emitterSeq),
              String(first + BigInt(index)),
              EMITTER_KEY.publicKey,
            ],
          );
        return first;
      }),
  };
};

export const openLedger = (database: Database) => {
  const keys = createPostgresPayloadKeys(database, { masterKey: MASTER_KEY });
  const nowUs = (): bigint => BigInt(Date.now()) * 1000n;
  return { keys, write: createLedgerWriter({ database, keys, nameForSearch: searchNames, nowUs }) };
};

export const decisionMembers = (
  subject: string,
  action: string,
  decision: 'allow' | 'deny',
  more: {
    readonly agent?: string;
    readonly chain?: readonly string[];
    readonly resourceType?: string;
    readonly reasons?: readonly string[];
    readonly obligations?: readonly Members[];
    readonly requestId?: string;
    readonly resource?: string;
    readonly context?: Members;
    readonly subject?: Members;
  } = {},
): Members => ({
  ...(more.requestId === undefined ? {} : { request_id: more.requestId }),
  input: {
    version: 1,
    tenant: 'acme',
    subject: { type: 'user', id: subject, properties: {}, verified: true, ...more.subject },
    ...(more.agent === undefined
      ? {}
      : {
          agent: {
            type: 'agent',
            id: more.agent,
            properties: {},
            verified: true,
            chain: (more.chain ?? []).map((id) => ({ type: 'agent', id, properties: {}, verified: true })),
          },
        }),
    action: { name: action, properties: {} },
    resource: { type: more.resourceType ?? 'dataset', id: more.resource ?? 'hr.salaries', properties: {} },
    context: { purpose: 'headcount-report', ...more.context },
  },
  answer: {
    decision,
    allow: decision === 'allow',
    reasons:
      more.reasons?.map((code) => ({ code })) ??
      (decision === 'allow'
        ? [{ code: 'permitted' }]
        : [{ code: 'agent_not_entitled', leg: 'agent', rule: 'HR-DATA-2' }]),
    obligations: more.obligations ?? [],
    advice: [],
  },
});

/** Private keys of the ledgers, by tenant; there once the template is filled. */
export const ledgerKeys = new Map<string, string>();

/** Seals every log and signs a checkpoint of it, as sealer and signer do. */
export const signLedgers = async (database: Database, memoryFolder: string): Promise<void> => {
  const { keys, write } = openLedger(database);
  await createSealer({
    database,
    writeLedger: write,
    logs: () => readNewestLogs(database),
    ids: freshIds(),
  }).sealAll();
  await createSigner({
    store: createSignerStore({ database, keys, transaction: database.transaction }),
    memory: openMemoryFolder(memoryFolder),
    keyOf: ({ tenant, origin }) => {
      const key = signingKeyFromPem(ledgerKeys.get(tenant) ?? '');
      return { key, verifier: parseVkey(formatVkey(origin, key.publicKey)) };
    },
    nowUs: () => BigInt(Date.now()) * 1000n,
    logger: silent,
    metrics: createSignerMetrics(createRegistry({ service: 'signer', processMetrics: false })),
  }).signAll();
};

/** What an agent did in a session for somebody, and others beside it. */
const story = (feeder: ReturnType<typeof createFeeder>): readonly NewEntry[] => [
  feeder.decision(
    decisionMembers('alice', 'read', 'allow', {
      agent: 'analytics-agent',
      chain: ['planner', 'researcher'],
      context: { session: 's-9', purpose: 'quarterly-report' },
      obligations: [{ id: 'o1', type: 'redact', properties: {} }],
      requestId: 'r-1',
    }),
  ),
  feeder.decision(
    decisionMembers('bob', 'read', 'deny', {
      agent: 'planner',
      reasons: ['a', 'b', 'c', 'd', 'fifth', 'sixth'],
      resource: 'a/b',
      resourceType: 'file',
    }),
  ),
  feeder.decision(
    decisionMembers('alice', 'write', 'deny', {
      agent: 'writer',
      chain: ['researcher', 'planner', 'x', 'y', 'z', 'deep'],
      reasons: ['agent_not_entitled', 'purpose_mismatch'],
      context: { session: 's-9' },
      resource: 'a/b',
    }),
  ),
  feeder.decision(decisionMembers('dave', 'read', 'allow', { agent: 'deep', chain: ['deep'] })),
];

/** acme: incarnation, 8 decisions, a heartbeat; globex: incarnation, two decisions, one of a masked person; initech: incarnation, a story; edict: incarnation, start. */
const fill = async (adminUrl: string): Promise<void> => {
  const database = connectPostgres(adminUrl, { poolSize: 2 });
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-ledger-keys-'));
  try {
    await migrate(database, ledgerMigrations());
    await migrate(database, keyStoreMigrations());
    const { write } = openLedger(database);
    const logs = new Map<string, Log>();
    for (const tenant of ['edict', 'acme', 'globex', 'initech']) {
      const { log } = await createLedger({
        write,
        tenant,
        authority: 'audit.example.com',
        keyFile: (name, incarnation) => path.join(folder, `${name}-${incarnation}.pem`),
        nowUs: () => BigInt(Date.now()) * 1000n,
      });
      logs.set(tenant, log);
    }
    const feeder = (tenant: string) => {
      const log = logs.get(tenant);
      if (log === undefined) throw new Error(`no log of ${tenant}`);
      return createFeeder(write, log);
    };
    const [edict, acme, globex] = [feeder('edict'), feeder('acme'), feeder('globex')];
    await edict.store([edict.start()]);
    await acme.store([
      acme.decision(decisionMembers('alice', 'read', 'allow')),
      acme.decision(
        decisionMembers('alice', 'read', 'deny', { agent: 'analytics-agent', context: { session: 's-1' } }),
      ),
      acme.decision(decisionMembers('bob', 'write', 'deny', { agent: 'analytics-agent' })),
      acme.decision(decisionMembers('bob', 'read', 'allow', { resource: 'finance.invoices' })),
      acme.heartbeat(),
      acme.decision(decisionMembers('carol\u001b[31m', 'read', 'deny', { agent: 'a\u202egent' })),
      acme.decision(decisionMembers('dave', 'read', 'allow')),
      acme.decision(decisionMembers('dave', 'delete', 'deny')),
      acme.decision(decisionMembers('alice', 'read', 'allow')),
    ]);
    const initech = feeder('initech');
    await initech.store(story(initech));
    const erin = { masked: createHmac('sha256', MASK_KEY).update('"erin"').digest('hex'), key: 'mask-1' };
    await globex.store([
      globex.decision(decisionMembers('alice', 'read', 'allow')),
      globex.decision(decisionMembers('', 'read', 'deny', { subject: { id: erin } })),
    ]);
    for (const tenant of [...logs.keys(), META_KEY])
      ledgerKeys.set(tenant, readFileSync(path.join(folder, `${tenant}-1.pem`), 'utf8'));
  } finally {
    await database.close();
    rmSync(folder, { recursive: true, force: true });
  }
};

export const LEDGER_TEMPLATE: DatabaseTemplate = { name: `ledger_${process.pid}_${Date.now()}`, fill };
