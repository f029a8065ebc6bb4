import { startLogSink } from '../../scripts/bench/log-sink.ts';
import { measurePeers, reportPeers, type PeersOptions, type PeersResults } from '../../scripts/bench/peers.ts';
import { allows, peerRequests } from '../../scripts/bench/peers-requests.ts';

const OPTIONS: PeersOptions = {
  rounds: 1,
  durationMs: 1_000,
  warmUpMs: 1_000,
  connections: 2,
  requests: 60,
  seed: 7,
  // Its package is 100 MB, and a test downloads nothing.
  withCerbos: false,
  outageMs: 500,
  offeredPerS: 50,
  settleMs: 60_000,
  driver: 'own',
  log: () => undefined,
};

describe('the requests of the peers', () => {
  it('are the same from the same seed, and others from another', () => {
    expect(peerRequests(50, 1)).toEqual(peerRequests(50, 1));
    expect(peerRequests(50, 1)).not.toEqual(peerRequests(50, 2));
  });

  it('say the same thing to each server', () => {
    for (const { edict, opa, cerbos } of peerRequests(20, 3)) {
      const [ours, theirs, others] = [JSON.parse(edict), JSON.parse(opa).input, JSON.parse(cerbos)];
      expect(theirs.resource.properties).toEqual(ours.resource.properties);
      expect(others.resources[0].resource.attr).toEqual(ours.resource.properties);
      expect({ ...others.principal.attr, roles: others.principal.roles }).toEqual(ours.subject.properties);
      expect(others.resources[0].actions).toEqual([ours.action.name]);
    }
  });

  it('are answered in three dialects', () => {
    expect(allows('edict', { allow: true })).toBe(true);
    expect(allows('opa', { result: { allow: false } })).toBe(false);
    expect(allows('opa', {})).toBeUndefined();
    expect(allows('cerbos', { results: [{ actions: { read: 'EFFECT_ALLOW' } }] })).toBe(true);
    expect(allows('cerbos', { results: [{ actions: { read: 'EFFECT_DENY' } }] })).toBe(false);
    expect(allows('cerbos', { code: 3 })).toBeUndefined();
  });
});

describe('the log sink', () => {
  it('counts different decisions, and listens on the same port after it was away', async () => {
    const sink = await startLogSink();
    const send = async () =>
      await fetch(sink.url, { method: 'POST', body: JSON.stringify([{ decision_id: 'a' }, { decision_id: 'b' }]) });
    try {
      expect((await send()).status).toBe(200);
      await sink.stop();
      await expect(send()).rejects.toThrow();
      await sink.start();
      await send();
      expect(sink.received()).toBe(2);
    } finally {
      await sink.stop();
    }
  });
});

describe('the bench of the peers', () => {
  let results: PeersResults;
  beforeAll(async () => {
    results = await measurePeers(OPTIONS);
  }, 240_000);

  it('says how to get wrk where it is wanted and not there', async () => {
    const { PATH } = process.env;
    process.env['PATH'] = '';
    try {
      await expect(measurePeers({ ...OPTIONS, driver: 'wrk' })).rejects.toThrow(/apt-get install wrk/);
    } finally {
      process.env['PATH'] = PATH;
    }
  });

  it('measures real servers that decide alike, some requests allowed and some denied', () => {
    expect(Object.keys(results.peers)).toEqual([
      'bare node:http',
      'edict, spool',
      'edict, memory',
      'OPA, log off',
      'OPA, log to HTTP',
    ]);
    expect(results.allowed).toBeGreaterThan(0);
    expect(results.allowed).toBeLessThan(results.requests);
    for (const figures of Object.values(results.peers)) {
      expect(figures.requestsPerS).toBeGreaterThan(0);
      expect(figures.p99Ms).toBeGreaterThanOrEqual(figures.p50Ms);
      expect(figures.cpuUsPerRequest).toBeGreaterThan(0);
      expect(figures.residentBytes).toBeGreaterThan(10_000_000);
    }
  });

  it('loses no event while the broker is away', () => {
    const [ours, opa] = results.outages;
    expect(ours?.name).toMatch(/^edict/);
    expect(ours?.answered).toBeGreaterThan(0);
    expect(ours?.lost).toBe(0);
    expect(ours?.outageMs).toBeGreaterThanOrEqual(500);
    expect(opa?.answered).toBeGreaterThan(0);
  });

  it('prints what is wanted beside what was reached', () => {
    const text = reportPeers(results);
    expect(text).toMatch(/CPU of a decision, to a bare node:http server +<= 2 × +\d/);
    expect(text).toMatch(/to Cerbos without its audit +>= 8 × +–/);
  });
});
