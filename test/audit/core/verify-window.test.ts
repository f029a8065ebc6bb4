import { hex, sha256 } from '../../../services/shared/contracts/bytes.ts';
import { verifyLog } from '../../../services/audit/core/verify.ts';
import type { VerifyInput } from '../../../services/audit/core/verify-input.ts';
import { createTestLog, EMITTER, NOW_MS, type TestLog } from './verify-log.ts';
import { sign as seal } from './verify-signed-log.ts';

const HOUR = 3_600_000;
const START = NOW_MS - 10 * HOUR;
const at = (hours: number): number => START + hours * HOUR;

const sign = (log: TestLog): Pick<VerifyInput, 'newest'> => ({ newest: seal(log) });

const statement = async (log: TestLog, from: number, to: number, change: Partial<VerifyInput> = {}) => {
  const report = await verifyLog(log.input({ window: { fromMs: at(from), toMs: at(to) }, ...change }));
  expect(report.findings.filter(({ attack }) => attack !== 'emitter_gap')).toEqual([]);
  if (report.statement === undefined) throw new Error('no statement');
  return report.statement;
};

describe('what is missing between two times', () => {
  it('is nothing where every number is there, and the limits say how far that is signed', async () => {
    const log = createTestLog();
    for (const hour of [1, 2, 3, 4]) {
      log.setTime(at(hour));
      log.decision();
    }
    log.heartbeat({ state: 'final' });
    const newest = sign(log);
    const said = await statement(log, 2, 4, newest);
    expect(said).toMatchObject({ status: 'nothing_missing', events: 2, streams: 1, missing: [], missingNumbers: '0' });
    expect(said.limits).toEqual(['an emitter that never reached this ledger is not known to it']);
    log.decision();
    const later = await statement(log, 2, 4, newest);
    expect(later.limits[0]).toContain('signed up to entry 6');
    expect(later.limits[0]).toContain('the 1 entries after it are not');
  });

  it('is not said of a log that nobody signed', async () => {
    const log = createTestLog();
    log.setTime(at(1));
    log.decision();
    expect((await statement(log, 0, 2)).status).toBe('not_proven');
  });

  it('are numbers between events around which the times lie, named by a gap entry or not', async () => {
    const log = createTestLog();
    log.setTime(at(1));
    log.decision();
    log.skip();
    log.skip();
    log.setTime(at(3));
    log.decision();
    log.setTime(at(5));
    log.decision();
    log.own('gap', { gap: 'numbers', tenant: 'acme', emitter: EMITTER, boot: '1', from: '2', to: '2' });
    const newest = sign(log);
    const within = await statement(log, 2, 4, newest);
    expect(within.status).toBe('missing');
    expect(within.missingNumbers).toBe('2');
    const around = { after: new Date(at(1)).toISOString(), before: new Date(at(3)).toISOString() };
    expect(within.missing).toEqual(
      expect.arrayContaining([
        { emitter: EMITTER, boot: '1', from: '3', to: '3', state: 'unnamed', ...around },
        { emitter: EMITTER, boot: '1', from: '2', to: '2', state: 'named', ...around },
      ]),
    );
    // The link behind the hole cannot be followed, and the unnamed number fails completeness: so not proven, not nothing.
    expect((await statement(log, 4, 6, newest)).status).toBe('not_proven');
  });

  it('may be whatever an emitter did behind its last event, when it did not say that it rests', async () => {
    const log = createTestLog();
    log.setTime(at(1));
    log.decision();
    const newest = sign(log);
    const said = await statement(log, 0, 3, newest);
    expect(said.limits.find((limit) => limit.includes('was heard last'))).toContain(`emitter ${EMITTER} boot 1`);
    log.restart();
    log.setTime(at(2));
    const [first] = log.rows.slice(1);
    if (first?.payload.state !== 'opened') throw new Error('opened');
    log.heartbeat({
      recovered: [{ boot: '1', sequence: '1', digest: hex(sha256(first.payload.payload)) }],
      state: 'idle',
    });
    expect((await statement(log, 0, 3, newest)).limits.some((limit) => limit.includes('was heard last'))).toBe(false);
  });
});
