import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { verifyLog } from '../../../services/audit/core/verify.ts';
import type { StoredCheckpoint } from '../../../services/audit/core/verify-input.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { newLog, sign, type Members } from './verify-signed-log.ts';
import { erasure, LOG_KEY, ORIGIN, redOf, VKEY } from './verify-log.ts';

describe('a log with checkpoints', () => {
  it('is authentic as far as they cover it, and says how far that is', async () => {
    const { input } = newLog();
    const { verdicts, findings } = await verifyLog(input());
    expect(findings).toEqual([]);
    expect(verdicts.authenticity).toMatchObject({
      status: 'ok',
      checked: { checkpoints: 2 },
      note: 'signed with the log’s key up to entry 7; the 1 after it are not signed yet',
    });
    expect(verdicts.append_only.status).toBe('not_checked');
    expect(verdicts.completeness.checked).toMatchObject({ sealed_counts: 6 });
    expect(verdicts.freshness).toMatchObject({ status: 'not_checked' });
    expect(verdicts.freshness.note).toMatch(/sealed at 2025-12-31T\S+ by the ledger’s own clock$/);
  });

  it('goes red where an entry was written anew with all hashes', async () => {
    const { log } = newLog();
    const other = newLog();
    other.log.rows.forEach((row, at) => {
      const checkpoint = log.rows[at]?.checkpoint;
      if (checkpoint !== undefined) row.checkpoint = checkpoint;
    });
    // Its seals name the roots that it was signed with.
    expect(await redOf(other.input())).toEqual(['append_only']);
    expect((await verifyLog(other.input())).findings[0]).toMatchObject({ attack: 'history_rewritten', seq: '4' });
  });

  it('goes red when its end is cut off, though every table fits', async () => {
    const { log, input } = newLog();
    const rows = log.rows.slice(0, 6);
    const head = { size: 6n, leaf: rows[5]!.leaf };
    expect(await redOf(input({ pages: [rows], head }))).toEqual(['append_only']);
    expect((await verifyLog(input({ pages: [rows], head }))).findings).toMatchObject([
      { attack: 'tail_truncated', seq: '6' },
    ]);
  });

  it('is not authentic with a note of another key, of another size or root, or of none', async () => {
    const { key } = generateSigningKey();
    const signed = newLog();
    const cases: readonly ((checkpoint: StoredCheckpoint) => StoredCheckpoint)[] = [
      (checkpoint) => ({ ...checkpoint, note: Buffer.from('none') }),
      (checkpoint) => ({ ...checkpoint, root: Buffer.alloc(32) }),
      (checkpoint) => ({
        ...checkpoint,
        note: signCheckpoint({ origin: ORIGIN, ...checkpoint }, key, parseVkey(formatVkey(ORIGIN, key.publicKey))),
      }),
      (checkpoint) => ({
        ...checkpoint,
        note: signCheckpoint({ origin: ORIGIN, size: 3n, root: checkpoint.root }, LOG_KEY, parseVkey(VKEY)),
      }),
    ];
    const last = signed.log.rows[7]!;
    const whole = last.checkpoint!;
    for (const alter of cases) {
      last.checkpoint = alter(whole);
      expect(await redOf(signed.input())).toEqual(['authenticity']);
    }
  });

  it('misses a checkpoint that a later seal names', async () => {
    const { log, input } = newLog();
    delete log.rows[4]!.checkpoint;
    expect((await verifyLog(input())).findings).toMatchObject([
      { verdict: 'append_only', attack: 'checkpoint_removed', seq: '7' },
    ]);
  });

  it.each<[string, Members]>([
    ['entries of a kind', { kinds: [['decision', '2']] }],
    [
      'entries of a kind that are not there',
      {
        kinds: [
          ['decision', '1'],
          ['heartbeat', '1'],
        ],
      },
    ],
    ['decisions', { decisions: [['allow', '1']] }],
    ['reasons', { reasons: [['none', '1']] }],
    ['from another entry on', { from: '3' }],
    ['nothing that is a count', { kinds: 'many' }],
  ])('is incomplete when a seal counts %s otherwise', async (_name, seal) => {
    const { log, input } = newLog();
    const newest = sign(log, seal);
    expect(await redOf(input({ newest }))).toEqual(['completeness']);
    expect((await verifyLog(input({ newest }))).findings[0]).toMatchObject({ attack: 'seal_wrong', seq: '9' });
  });

  it('may have fewer decisions than a seal counts only where payloads are gone', async () => {
    const { log, input } = newLog();
    log.rows[6]!.payload = { state: 'no_key' };
    log.own('erasure', erasure([['6', '6']]));
    const report = await verifyLog(input({ newest: sign(log, { decisions: [['deny', '1']] }) }));
    expect(report.findings).toEqual([]);
    // The erasure entry is covered, so it counts.
    expect(report.verdicts.lifecycle.status).toBe('ok');
    const earlier = await verifyLog(input());
    expect(earlier.verdicts.lifecycle.status).toBe('ok');
  });

  it('misses numbers that a seal says were complete', async () => {
    const { log, input } = newLog();
    const emitters = [{ emitter: 'ab'.repeat(16), boot: '1', highest: '9', complete_to: '9', holes: '0' }];
    expect(await redOf(input({ newest: sign(log, { emitters }) }))).toEqual(['completeness']);
  });

  it('has the hashes of its tiles', async () => {
    const { log, input } = newLog(260);
    expect((await verifyLog(input())).verdicts.integrity).toMatchObject({ status: 'ok', checked: { tile_hashes: 1 } });
    const row = log.rows[255]!;
    row.nodes = [{ level: 1, index: 0n, hash: Buffer.alloc(32) }];
    expect((await verifyLog(input())).findings).toMatchObject([
      { verdict: 'integrity', attack: 'tile_edited', seq: '255' },
    ]);
    row.nodes = [];
    expect(await redOf(input())).toEqual(['integrity']);
  });
});
