import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  commitPayload,
  encodeEntry,
  ENTRY_KINDS,
  genesisHash,
  leafHash,
  type EntryKind,
} from '../../../services/audit/core/entry.ts';
import { EVIDENCE_FORMAT } from '../../../services/audit/core/evidence-format.ts';
import { writeEvidence, type EvidenceRow } from '../../../services/audit/core/evidence-write.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../../services/shared/tlog/merkle.ts';
import { verifyTwice, type Json } from './evidence-bundle.ts';
import { erasure } from './verify-log.ts';

const ORIGIN = 'audit.example.com/acme/0/1';
const { key } = generateSigningKey();
const vkey = formatVkey(ORIGIN, key.publicKey);
const BEGIN_US = 1_704_067_200_000_000n;
const DAY_US = 86_400_000_000n;

/** A payload, or the seconds behind the beginning of the log and a payload; undefined: it is gone. */
type Written = readonly [kind: EntryKind, document: Json | undefined, afterUs?: bigint];

/** A bundle of a range whose first entry is `from`. */
const bundleOf = async (from: bigint, written: readonly Written[]): Promise<Buffer> => {
  const sign = (tree: ReturnType<typeof createTreeHasher>): Buffer =>
    signCheckpoint({ origin: ORIGIN, size: tree.size(), root: tree.root() }, key, parseVkey(vkey));
  const subtrees = Array.from({ length: from.toString(2).replaceAll('0', '').length }, (_, n) => Buffer.alloc(32, n));
  const tree = createTreeHasher({ size: from, subtrees });
  const start = from === 0n ? null : sign(tree).toString();
  let prev: Uint8Array = genesisHash({ origin: ORIGIN, vkey });
  const salt = Buffer.alloc(32, 1);
  const rows = written.map(([kind, document, afterUs = 0n], index): EvidenceRow => {
    const seq = from + BigInt(index);
    const payload = Buffer.from(JSON.stringify(document ?? { of: 'somebody' }));
    const header = encodeEntry({
      kind: ENTRY_KINDS[kind],
      seq,
      ingestUs: BEGIN_US + afterUs,
      eventId: Buffer.alloc(16, 1),
      topic: '',
      partition: 0,
      offset: 0n,
      emitter: Buffer.alloc(16),
      boot: 0n,
      emitterSeq: 0n,
      policySetDigest: Buffer.alloc(32),
      commitment: commitPayload(salt, 'application/json', payload),
      prev,
    });
    prev = leafHash(header);
    tree.add(prev);
    const opened = { state: 'opened', salt, contentType: 'application/json', payload } as const;
    return { seq, header, payload: document === undefined ? { state: 'no_key' } : opened };
  });
  const about = {
    format: EVIDENCE_FORMAT,
    scope: 'range',
    tenant: 'acme',
    origin: ORIGIN,
    by: 'auditor',
    exported_at: '2026-01-01T00:00:00.000Z',
    filter: {},
    access: { log: ORIGIN, begun: '9' },
    size: String(tree.size()),
    start: { size: String(from), subtrees: subtrees.map((hash) => hash.toString('base64')), checkpoint: start },
  } as const;
  const stream = async function* (): AsyncGenerator<EvidenceRow> {
    yield* rows;
  };
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeEvidence(about, { vkey, checkpoint: sign(tree) }, stream())) chunks.push(chunk);
  return Buffer.concat(chunks);
};

describe('payloads that are gone from an evidence bundle', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-gone-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const lifecycle = async (from: bigint, written: readonly Written[]) => {
    const { report } = await verifyTwice(await bundleOf(from, written), folder, vkey);
    expect([report.verdicts.authenticity.status, report.verdicts.integrity.status]).toEqual(['ok', 'ok']);
    return report.verdicts.lifecycle;
  };

  const first: Written = ['incarnation', { origin: ORIGIN, vkey }];
  const gone: Written = ['decision', undefined, 7n];
  const before = (ranges: readonly (readonly string[])[]): Json => ({ reason: 'subject_erased_before', ranges });
  const named = erasure([['1', '2']]);

  it.each<readonly [what: string, status: string, written: readonly Written[]]>([
    ['two approved', 'ok', [gone, gone, ['erasure', named]]],
    [
      'ranges lie in one another',
      'ok',
      [
        gone,
        gone,
        ['alert', {}],
        [
          'erasure',
          erasure([
            ['1', '3'],
            ['2', '2'],
          ]),
        ],
      ],
    ],
    ['two entries name half of it each', 'ok', [gone, gone, ['erasure', erasure([['2', '2']])], ['erasure', named]]],
    ['it never was there', 'ok', [gone, gone, ['erasure', before([['1', '2']]), 7n]]],
    ['nothing names it', 'failed', [gone, gone]],
    ['one of two is named', 'failed', [gone, gone, ['erasure', erasure([['2', '2']])]]],
    ['nobody approved', 'failed', [gone, gone, ['erasure', { ranges: [['1', '2']] }]]],
    ['one approved twice', 'failed', [gone, gone, ['erasure', { ...named, approvers: ['ann', 'ann'] }]]],
    ['the approvers are no names', 'failed', [gone, gone, ['erasure', { ...named, approvers: ['ann', '', 2] }]]],
    ['nobody asked', 'failed', [gone, gone, ['erasure', { ...named, request: 'ticket 7' }]]],
    ['no law is named', 'failed', [gone, gone, ['erasure', { ...named, legal_basis: '' }]]],
    ['the entry names what comes after it', 'failed', [['alert', {}], ['erasure', erasure([['3', '3']])], gone]],
    ['the entry names itself too', 'failed', [gone, gone, ['erasure', erasure([['1', '3']])]]],
    ['the ranges are none', 'failed', [gone, gone, ['erasure', { ...named, ranges: [['2', '1'], ['1'], 'all'] }]]],
    ['another batch says that it never was', 'failed', [gone, gone, ['erasure', before([['1', '2']]), 8n]]],
    [
      'part of it is of an earlier batch',
      'failed',
      [['decision', undefined], gone, ['erasure', before([['1', '2']]), 7n]],
    ],
    [
      'retention names part of a segment',
      'failed',
      [gone, ['retention', { period_days: '200', ranges: [['1', '1']] }, 300n * DAY_US]],
    ],
  ])('where %s: %s', async (_what, status, written) => {
    expect(await lifecycle(0n, [first, ...written])).toMatchObject({ status });
  });

  const retained = (afterDays: bigint, document: Json): readonly Written[] => [
    gone,
    gone,
    ['retention', { ranges: [['0', '65535']], ...document }, afterDays * DAY_US + 7n],
  ];

  it.each<readonly [what: string, status: string, written: readonly Written[]]>([
    ['the period is over', 'ok', retained(200n, { period_days: '200' })],
    ['a short period says that it is one', 'ok', retained(31n, { period_days: '30', below_floor: true })],
    ['a short period does not', 'not_checked', retained(400n, { period_days: '182' })],
    ['there is no period', 'not_checked', retained(400n, {})],
    ['the period is no number of days', 'not_checked', retained(400n, { period_days: 200 })],
    ['the period is not over', 'not_checked', retained(199n, { period_days: '200' })],
    ['one approved', 'not_checked', [gone, ['erasure', erasure([['65534', '65534']], { approvers: ['ann'] })]]],
  ])('in a bundle of later entries, where %s: %s', async (_what, status, written) => {
    expect(await lifecycle(65_534n, written)).toMatchObject({ status });
  });

  it('names the entry that does not allow it, and why', async () => {
    const { firstBad } = await lifecycle(0n, [first, gone, ['erasure', erasure([['1', '1']], { approvers: ['ann'] })]]);
    expect(firstBad).toMatchObject({
      seq: '1',
      actual: 'gone, or its key is; entry 2 names it, but has one approver, not two',
      attack: 'payload_removed',
    });
  });
});
