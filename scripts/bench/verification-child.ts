import { createCipheriv, createDecipheriv, hash, randomBytes } from 'node:crypto';
import { AppError, errorMessage } from '../../services/shared/contracts/errors.ts';
import { decodeEntry } from '../../services/audit/core/entry.ts';
import type { Database } from '../../services/audit/core/database.ts';
import { createSearchNames } from '../../services/audit/core/pseudonym.ts';
import type { StoredEntry } from '../../services/audit/core/verify-input.ts';
import { hasFailed, type VerificationReport } from '../../services/audit/core/verify-report.ts';
import { verifyLog } from '../../services/audit/core/verify.ts';
import { createPostgresPayloadKeys } from '../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createVerifier } from '../../services/audit/postgres/read-verification.ts';
import type { RowSizes } from './insert-limit.ts';
import { treeCpuUsOf } from './measure.ts';

export interface VerificationOrder {
  readonly url: string;
  readonly postgresPid: number;
  readonly masterKey: string;
  readonly tenant: string;
  readonly events: number;
  readonly rounds: number;
  readonly sizes: RowSizes;
}

/** One round of one way. */
export interface Round {
  readonly entries: number;
  readonly wallMs: number;
  /** Of this process, all its threads. */
  readonly cpuUs: number;
  readonly postgresCpuUs: number;
}

export type VerificationMessage =
  { readonly rounds: Readonly<Record<string, readonly Round[]>> } | { readonly failure: string };

const timed = async (postgresPid: number, work: () => Promise<number> | number): Promise<Round> => {
  const [startedMs, cpu, postgres] = [performance.now(), process.cpuUsage(), treeCpuUsOf(postgresPid)];
  const entries = await work();
  const { user, system } = process.cpuUsage(cpu);
  return {
    entries,
    wallMs: performance.now() - startedMs,
    cpuUs: user + system,
    postgresCpuUs: treeCpuUsOf(postgresPid) - postgres,
  };
};

/** What a header costs at least: its leaf hash and one node of the tree, with nothing decoded or compared. */
const hashHeaders = (headers: readonly Uint8Array[]): number => {
  const pair = Buffer.alloc(65, 1);
  for (const header of headers) {
    hash('sha256', header, 'buffer');
    hash('sha256', pair, 'buffer');
  }
  return headers.length;
};

/**
 * What an entry with its payload costs at least: the hashes of its header, AES-256-GCM of the wrapped key and of the
 * payload, SHA-256 of the payload for its commitment and for the emitter's chain, and `JSON.parse`.
 */
const openPayloads = ({ headerBytes, payloadBytes }: RowSizes, count: number): number => {
  const [key, nonce, aad] = [randomBytes(32), randomBytes(12), randomBytes(60)];
  const sealed = (plain: Uint8Array) => {
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
    const bytes = cipher.update(plain);
    cipher.final();
    return { bytes, tag: cipher.getAuthTag() };
  };
  const open = ({ bytes, tag }: ReturnType<typeof sealed>): Buffer => {
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(aad).setAuthTag(tag);
    const plain = decipher.update(bytes);
    decipher.final();
    return plain;
  };
  const json = JSON.stringify(Array.from({ length: 16 }, (_, index) => ({ name: `member ${index}`, value: index })));
  const event = Buffer.from(json.padEnd(payloadBytes - 90));
  const [wrapped, payload] = [sealed(randomBytes(32)), sealed(event)];
  const [header, pair] = [randomBytes(headerBytes), randomBytes(65)];
  for (let index = 0; index < count; index += 1) {
    for (const bytes of [header, pair, event, event, pair]) hash('sha256', bytes, 'buffer');
    open(wrapped);
    JSON.parse(open(payload).toString('utf8'));
  }
  return count;
};

const requireGood = (report: VerificationReport | undefined): number => {
  if (report === undefined || hasFailed(report))
    throw new AppError('internal', `the ledger does not verify: ${JSON.stringify(report?.findings[0])}`);
  return Number(report.size);
};

/** The headers of the ledger in memory, as a log whose payloads the verifier does not get. */
const readHeaders = async (database: Database, tenant: string) => {
  const rows = await database.query<Omit<StoredEntry, 'payload' | 'search'>>(
    `select e.seq, e.segment, e.header, e.leaf from edict.entry e join edict.log l on l.id = e.log_id
     where l.tenant = $1::text order by e.seq`,
    [tenant],
  );
  const [log] = await database.query<{ origin: string; vkey: string }>(
    'select origin, vkey from edict.log where tenant = $1::text',
    [tenant],
  );
  const last = rows.at(-1);
  if (last === undefined || log === undefined) throw new AppError('internal', 'the ledger is empty');
  const entries = rows.map((row): StoredEntry => ({ ...row, payload: { state: 'withheld' }, search: [] }));
  return {
    bytes: rows.map(({ header }) => header),
    input: () => ({
      log: { tenant, ...log },
      head: { size: decodeEntry(last.header).seq + 1n, leaf: last.leaf },
      pages: [entries],
      orphans: () => [],
      claims: [],
      known: [],
      emitterKeys: new Map(),
      expectedSearch: () => undefined,
      now: Date.now,
      graceMs: 60_000,
    }),
  };
};

const measure = async (order: VerificationOrder): Promise<Readonly<Record<string, readonly Round[]>>> => {
  const masterKey = Buffer.from(order.masterKey, 'hex');
  const database = connectPostgres(order.url, { poolSize: 4 });
  const keys = createPostgresPayloadKeys(connectPostgres(order.url, { poolSize: 4, prepares: true }), { masterKey });
  const nameForSearch = createSearchNames(masterKey);
  const verify = createVerifier({
    database,
    reports: database,
    keys,
    nameForSearch,
    graceMs: 60_000,
    placeKey: Buffer.alloc(32, 1),
  });
  try {
    const headers = await readHeaders(database, order.tenant);
    const ways: Readonly<Record<string, () => Promise<number> | number>> = {
      headers: async () => requireGood(await verifyLog(headers.input())),
      'headers: SHA-256 alone': () => hashHeaders(headers.bytes),
      all: async () => requireGood((await verify(order.tenant, {}))[0]),
      'all: SHA-256, AES-256-GCM, JSON.parse alone': () => openPayloads(order.sizes, order.events),
    };
    const rounds = new Map<string, Round[]>(Object.keys(ways).map((name) => [name, []]));
    for (let round = -1; round < order.rounds; round += 1)
      for (const [name, work] of Object.entries(ways)) {
        const measured = await timed(order.postgresPid, work);
        // The first warms up.
        if (round >= 0) rounds.get(name)?.push(measured);
      }
    return Object.fromEntries(rounds);
  } finally {
    await keys.close();
    await database.close();
  }
};

if (process.send !== undefined && process.argv[2] === '--verification-child') {
  process.once('message', (order: unknown) => {
    void measure(order as VerificationOrder)
      .then(
        (rounds): VerificationMessage => ({ rounds }),
        (error: unknown): VerificationMessage => ({ failure: errorMessage(error) }),
      )
      .then((message) => process.send?.(message, () => process.disconnect()));
  });
}
