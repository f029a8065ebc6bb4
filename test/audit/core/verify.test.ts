import { fromHex, hex, sha256 } from '../../../services/shared/contracts/bytes.ts';
import { decodeEntry, encodeEntry, leafHash } from '../../../services/audit/core/entry.ts';
import { verifyLog } from '../../../services/audit/core/verify.ts';
import { createTestLog, EMITTER, NOW_MS, redOf, type Row, type TestLog } from './verify-log.ts';

const filled = (): TestLog => {
  const log = createTestLog();
  for (let i = 0; i < 4; i += 1) log.decision();
  log.heartbeat();
  for (let i = 0; i < 4; i += 1) log.decision();
  return log;
};

const at = (log: TestLog, index: number): Row => {
  const row = log.rows[index];
  if (row === undefined) throw new RangeError(`no row ${index}`);
  return row;
};

const flipped = (bytes: Uint8Array, index: number): Buffer => {
  const out = Buffer.from(bytes);
  out[index] = (out[index] ?? 0) ^ 1;
  return out;
};

describe('verifyLog', () => {
  it('finds nothing wrong with a whole log, and says what it could not check', async () => {
    const log = filled();
    const report = await verifyLog(log.input());
    expect(report.findings).toEqual([]);
    expect(Object.fromEntries(Object.entries(report.verdicts).map(([name, { status }]) => [name, status]))).toEqual({
      authenticity: 'not_checked',
      append_only: 'not_checked',
      integrity: 'ok',
      projection: 'ok',
      completeness: 'ok',
      lifecycle: 'ok',
      freshness: 'not_checked',
      clock: 'ok',
    });
    expect(report.verdicts.authenticity).toMatchObject({ checked: { emitter_signatures: 1 } });
    expect(report.verdicts.authenticity.note).toContain('not checkpointed yet');
    expect(report).toMatchObject({ size: '10', lastLeaf: hex(log.leaf()) });
    expect(report.verdicts.integrity.checked).toEqual({ entries: 10, payloads: 10 });
  });

  it('finds nothing wrong with a log that has its first entry only', async () => {
    expect(await redOf(createTestLog().input())).toEqual([]);
  });

  const attacks: readonly (readonly [name: string, alter: (log: TestLog) => void, red: readonly string[]])[] = [
    [
      'one byte of a payload',
      (log) => {
        const row = at(log, 3);
        if (row.payload.state === 'opened') row.payload = { ...row.payload, payload: flipped(row.payload.payload, 60) };
      },
      ['integrity'],
    ],
    ['a payload that its key does not open', (log) => (at(log, 3).payload = { state: 'unopened' }), ['integrity']],
    ['a payload that is gone', (log) => (at(log, 3).payload = { state: 'missing' }), ['lifecycle']],
    ['a payload key that is gone', (log) => (at(log, 3).payload = { state: 'no_key' }), ['lifecycle']],
    ['one byte of a header', (log) => (at(log, 3).header = flipped(at(log, 3).header, 20)), ['integrity']],
    [
      'a byte after a header',
      (log) => (at(log, 3).header = Buffer.concat([at(log, 3).header, Buffer.from([0])])),
      ['integrity', 'completeness'],
    ],
    ['one byte of a stored leaf hash', (log) => (at(log, 3).leaf = flipped(at(log, 3).leaf, 0)), ['integrity']],
    ['a wrong segment', (log) => (at(log, 3).segment = 1), ['integrity']],
    ['a search column', (log) => (at(log, 3).search = [{ decision: 'allow', action: 'read' }]), ['projection']],
    ['a search row that is gone', (log) => (at(log, 3).search = []), ['projection']],
    [
      'a search row that stands twice',
      (log) => (at(log, 3).search = [...at(log, 3).search, ...at(log, 3).search]),
      ['projection'],
    ],
    ['a search row of a heartbeat', (log) => (at(log, 5).search = at(log, 4).search), ['projection']],
    ['an entry removed from the middle', (log) => log.rows.splice(3, 1), ['integrity', 'completeness']],
    [
      'two entries that changed places',
      (log) => {
        const [a, b] = [at(log, 3), at(log, 4)];
        log.rows[3] = { ...b, seq: 3n };
        log.rows[4] = { ...a, seq: 4n };
      },
      ['integrity'],
    ],
    [
      'the payloads of two entries swapped',
      (log) => {
        const [a, b] = [at(log, 3), at(log, 4)];
        [a.payload, b.payload] = [b.payload, a.payload];
      },
      ['integrity'],
    ],
  ];
  it.each(attacks)('goes red for %s, and only where it must', async (_name, alter, red) => {
    const log = filled();
    const { head } = log.input();
    alter(log);
    expect(await redOf(log.input({ head }))).toEqual(red);
  });

  it('names the entry, what was expected and what is there', async () => {
    const log = filled();
    const row = at(log, 3);
    const good = row.leaf;
    row.leaf = flipped(good, 0);
    const { verdicts } = await verifyLog(log.input());
    expect(verdicts.integrity.firstBad).toEqual({
      seq: '3',
      what: 'stored leaf hash',
      expected: hex(good),
      actual: hex(row.leaf),
      attack: 'leaf_edited',
    });
  });

  it('finds a tail that is gone by the head, and by what somebody outside remembers', async () => {
    const log = filled();
    const { head } = log.input();
    const leaf = log.leaf();
    log.rows.splice(7);
    expect(await redOf(log.input({ head }))).toEqual(['append_only']);
    const shorter = { size: 7n, leaf: at(log, 6).leaf };
    expect(await redOf(log.input({ head: shorter }))).toEqual([]);
    const known = [{ source: 'the auditor', size: 10n, leaf, isOutside: true }];
    expect(await redOf(log.input({ head: shorter, known }))).toEqual(['append_only']);
    const claims = [{ source: 'the stream table', emitter: EMITTER, boot: 1n, highest: 9n }];
    expect(await redOf(log.input({ head: shorter, claims }))).toEqual(['completeness']);
  });

  it('finds a log that does not end where the next incarnation says', async () => {
    const log = filled();
    const { root } = await verifyLog(log.input());
    const continued = (size: bigint, hash = root) => ({ by: 'next', size, root: fromHex(hash) });
    expect(await redOf({ ...log.input(), continued: continued(10n) })).toEqual([]);
    expect(await redOf({ ...log.input(), continued: continued(9n) })).toEqual(['append_only']);
    expect(await redOf({ ...log.input(), continued: continued(11n) })).toEqual(['append_only']);
    expect(await redOf({ ...log.input(), continued: continued(10n, '00'.repeat(32)) })).toEqual(['append_only']);
  });

  it('says of payloads that the source does not give that nobody looked at them', async () => {
    const log = filled();
    const headers = log.rows.map((row) => ({ ...row, payload: { state: 'withheld' as const }, search: [] }));
    const report = await verifyLog(log.input({ pages: [headers.slice(0, 4), headers.slice(4)] }));
    expect(Object.fromEntries(Object.entries(report.verdicts).map(([name, { status }]) => [name, status]))).toEqual({
      authenticity: 'not_checked',
      append_only: 'not_checked',
      integrity: 'not_checked',
      projection: 'not_checked',
      completeness: 'ok',
      lifecycle: 'not_checked',
      freshness: 'not_checked',
      clock: 'ok',
    });
    headers[3] = { ...at(log, 3), header: flipped(at(log, 3).header, 20), payload: { state: 'withheld' }, search: [] };
    expect(await redOf(log.input({ pages: [headers] }))).toEqual(['integrity']);
  });

  it('goes on behind a row that its checks cannot take', async () => {
    const log = filled();
    const broken = {
      ...log.input(),
      expectedSearch: () => {
        throw new RangeError('no time');
      },
    };
    const report = await verifyLog(broken);
    expect(report.verdicts.integrity).toMatchObject({ status: 'failed', checked: { entries: 10 } });
  });

  it('finds a history that was rewritten with good hashes only by a leaf that is remembered', async () => {
    const log = filled();
    const other = filled();
    const known = [{ source: 'the auditor', size: 6n, leaf: at(log, 5).leaf, isOutside: true }];
    expect(await redOf(other.input({ emitterKeys: log.input().emitterKeys }))).toEqual([]);
    expect(await redOf(log.input({ known }))).toEqual([]);
    expect((await verifyLog(log.input({ known }))).verdicts.append_only.status).toBe('ok');
    expect(await redOf(other.input({ known }))).toEqual(['append_only']);
  });

  it('finds a header that does not say what its event says, though every hash fits', async () => {
    const log = createTestLog();
    log.decision();
    const before = at(log, 1);
    if (before.payload.state !== 'opened') throw new TypeError('opened');
    const bent = createTestLog();
    bent.append('decision', before.payload.contentType, before.payload.payload, {
      ...decodeEntry(before.header),
      seq: 1n,
      prev: bent.leaf(),
      commitment: decodeEntry(before.header).commitment,
      boot: 2n,
      policySetDigest: sha256('another'),
    }).search = before.search;
    // The salt of entry 1 is the same in both logs, so the commitment fits too.
    const report = await verifyLog(bent.input());
    expect(report.findings.filter(({ verdict }) => verdict === 'integrity').map(({ what }) => what)).toEqual([
      'boot in header',
      'policy set digest in header',
    ]);
  });

  it('finds a log that got another name or key', async () => {
    const log = filled();
    const { log: facts } = log.input();
    expect(await redOf(log.input({ log: { ...facts, origin: 'local-0123456789abcdef/other/0/1' } }))).toEqual([
      'integrity',
    ]);
    expect(
      await redOf(log.input({ log: { ...facts, previous: { origin: 'x', size: 1n, root: sha256('') } } })),
    ).toEqual(['integrity']);
    expect(await redOf(log.input({ log: { ...facts, tenant: 'other' } }))).toEqual(['integrity']);
  });

  it('finds rows whose entry is gone', async () => {
    const log = filled();
    expect(await redOf(log.input({ orphans: () => [{ table: 'search', seq: 99n }] }))).toEqual(['projection']);
    expect(await redOf(log.input({ orphans: () => [{ table: 'payload', seq: 99n }] }))).toEqual(['lifecycle']);
  });

  it('finds a heartbeat that its emitter did not sign', async () => {
    const log = createTestLog();
    log.decision();
    log.heartbeat({ extra: 1 });
    const { emitterKeys } = createTestLog().input();
    const row = at(log, 2);
    if (row.payload.state !== 'opened') throw new TypeError('opened');
    const event = JSON.parse(row.payload.payload.toString()) as { data: { signature: string } };
    event.data.signature = flipped(Buffer.from(event.data.signature, 'base64'), 3).toString('base64');
    const forged = createTestLog();
    const first = at(log, 1);
    if (first.payload.state !== 'opened') throw new TypeError('opened');
    forged.append('decision', first.payload.contentType, first.payload.payload, {
      ...decodeEntry(first.header),
      prev: forged.leaf(),
    }).search = first.search;
    const bytes = Buffer.from(JSON.stringify(event));
    const { commitment: _commitment, prev: _prev, ...header } = decodeEntry(row.header);
    forged.append('heartbeat', row.payload.contentType, bytes, header);
    expect(await redOf(forged.input({ emitterKeys }))).toEqual(['authenticity']);
  });

  it('lets a payload be gone that an erasure entry names, and says that no checkpoint covers it yet', async () => {
    const log = filled();
    log.own('erasure', { ranges: [['3', '4']] });
    at(log, 3).payload = { state: 'missing' };
    at(log, 4).payload = { state: 'no_key' };
    const report = await verifyLog(log.input());
    expect(report.findings).toEqual([]);
    expect(report.verdicts.lifecycle).toMatchObject({ status: 'not_checked', checked: { payloads_gone: 2 } });
    at(log, 6).payload = { state: 'missing' };
    expect(await redOf(log.input())).toEqual(['lifecycle']);
  });

  it('finds ingest times that go back, or that lie ahead of the clock', async () => {
    const log = filled();
    expect(await redOf(log.input({ now: () => NOW_MS - 2_000_000 }))).toEqual(['clock']);
    const row = at(log, 9);
    const header = encodeEntry({ ...decodeEntry(row.header), ingestUs: 1n });
    row.header = header;
    row.leaf = leafHash(header);
    expect(await redOf(log.input({ head: { size: 10n, leaf: row.leaf } }))).toEqual(['clock']);
  });
});

describe('completeness', () => {
  it('finds a number that never came, once the grace time is over', async () => {
    const log = createTestLog();
    log.decision();
    log.skip();
    log.decision();
    expect(await redOf(log.input({ graceMs: 10_000_000 }))).toEqual([]);
    const report = await verifyLog(log.input());
    expect(report.findings).toEqual([
      expect.objectContaining({ verdict: 'completeness', seq: '2', attack: 'emitter_gap' }),
    ]);
  });

  it('accepts a missing number that a gap entry names, and counts it', async () => {
    const log = createTestLog();
    log.decision();
    log.skip();
    log.decision();
    log.own('gap', { emitter: EMITTER, boot: '1', from: '2', to: '2' });
    const { verdicts } = await verifyLog(log.input());
    expect(verdicts.completeness).toMatchObject({ status: 'ok', failures: 0 });
    expect(verdicts.completeness.note).toContain('1 numbers are missing and named');
  });

  it('accepts events that come late, and still follows their links', async () => {
    const source = filled();
    const late = createTestLog();
    const order = [1, 3, 2, 5, 4, 6, 7, 8, 9].map((index) => at(source, index));
    const copy = (row: Row): void => {
      if (row.payload.state !== 'opened') throw new TypeError('opened');
      const { commitment: _c, prev: _p, seq: _s, ingestUs: _i, ...header } = decodeEntry(row.header);
      late.append(
        header.kind === 9 ? 'heartbeat' : 'decision',
        row.payload.contentType,
        row.payload.payload,
        header,
      ).search = row.search;
    };
    order.forEach(copy);
    const report = await verifyLog(late.input());
    expect(report.findings).toEqual([]);
    expect(report.verdicts.completeness.checked).toMatchObject({ numbers: 9, links: 9 });
  });

  it('finds a second entry with the same number, and an event that does not follow from the one before', async () => {
    const log = filled();
    const row = at(log, 9);
    if (row.payload.state !== 'opened') throw new TypeError('opened');
    const { commitment: _c, prev: _p, seq: _s, ingestUs: _i, ...header } = decodeEntry(row.header);
    log.append('decision', row.payload.contentType, row.payload.payload, header).search = row.search;
    expect(await redOf(log.input())).toEqual(['completeness']);
    const forged = createTestLog();
    forged.decision();
    forged.skip();
    const next = forged.decision();
    next.header = encodeEntry({ ...decodeEntry(next.header), emitterSeq: 2n });
    next.leaf = leafHash(next.header);
    const report = await verifyLog(forged.input({ head: { size: 3n, leaf: next.leaf } }));
    expect(report.verdicts.completeness.firstBad).toMatchObject({ seq: '2', attack: 'emitter_forged' });
  });

  it('compares what a later heartbeat says of an earlier boot', async () => {
    const log = createTestLog();
    const last = log.decision();
    if (last.payload.state !== 'opened') throw new TypeError('opened');
    const digest = hex(sha256(last.payload.payload));
    log.restart();
    log.heartbeat({ recovered: [{ boot: '1', sequence: '1', digest }] });
    expect(await redOf(log.input())).toEqual([]);
    log.heartbeat({ recovered: [{ boot: '1', sequence: '1', digest: hex(fromHex('00'.repeat(32))) }] });
    expect(await redOf(log.input())).toEqual(['completeness']);
  });

  it('finds the end of a boot that never came', async () => {
    const log = createTestLog();
    log.decision();
    log.restart();
    log.heartbeat({ recovered: [{ boot: '1', sequence: '3', digest: '00'.repeat(32) }] });
    const { verdicts } = await verifyLog(log.input());
    expect(verdicts.completeness.firstBad).toMatchObject({ what: expect.stringContaining('numbers 2–3') as unknown });
  });
});
