import { measureEngine, type EngineResults } from '../../scripts/bench/engine.ts';
import { reportEngine } from '../../scripts/bench/engine-report.ts';
import { collidingKeys, plainKeys } from '../../scripts/bench/flood-keys.ts';

/** FNV-1 (http://www.isthe.com/chongo/tech/comp/fnv/), 32 bits. */
const fnv1 = (text: string): number =>
  [...Buffer.from(text)].reduce((hash, byte) => Math.imul(hash, 16_777_619) ^ byte, 2_166_136_261) >>> 0;

describe('the keys of a hash flood', () => {
  it('are all different, and all fall into one bucket of a table of up to 65,536', () => {
    const keys = collidingKeys(5_000);
    expect(new Set(keys).size).toBe(5_000);
    expect(new Set(keys.map((key) => fnv1(key) & 0xffff)).size).toBe(1);
  });

  it('have counterparts as long that spread', () => {
    const keys = plainKeys(5_000);
    expect(new Set(keys).size).toBe(5_000);
    expect(new Set(keys.map((key) => key.length))).toEqual(new Set([6]));
    expect(new Set(keys.map((key) => fnv1(key) & 0xffff)).size).toBeGreaterThan(4_000);
  });
});

describe('the bench of the engine', () => {
  let results: EngineResults;
  beforeAll(async () => {
    results = await measureEngine({
      rounds: 1,
      turnMs: 20,
      warmUpMs: 20,
      cases: ['boolean', 'JWT', '1,000 rules'],
      withOpa: false,
      memorySizes: [50_000],
      reloadBytes: 100_000,
      log: () => undefined,
    });
  }, 240_000);

  it('measures each case on every host that can run it, after all decided alike', () => {
    const hosts = Object.fromEntries(results.cases.map((each) => [each.name, Object.keys(each.hosts)]));
    expect(hosts).toEqual({
      'boolean ABAC': ['ours', 'ours, text', 'sdk', 'cedar'],
      '1,000 rules': ['ours', 'ours, text', 'sdk', 'cedar'],
      'JWT, RS256': ['ours', 'ours, text'],
    });
    for (const { hosts: figures } of results.cases)
      for (const { p50Us, p99Us } of Object.values(figures)) {
        expect(p50Us).toBeGreaterThan(0);
        expect(p99Us).toBeGreaterThanOrEqual(p50Us);
      }
  });

  it('gives the fuel of each input and says what a host lacks', () => {
    const [boolean, , jwt] = results.cases;
    expect(boolean?.fuel).toHaveLength(3);
    for (const fuel of boolean?.fuel ?? []) expect(fuel).toBeGreaterThan(0);
    expect(jwt?.cannot.sdk).toMatch(/io\.jwt\.decode_verify/);
  });

  it('ends each runaway by its fuel', () => {
    const kinds = ['loops', 'calls', 'patterns', 'digests', 'tokens'];
    const sizes = ['small', 'large', 'most, 200 kB'];
    expect(Object.keys(results.runaways)).toEqual(kinds.flatMap((kind) => sizes.map((size) => `${kind}, ${size}`)));
    for (const { outcome, cpuMs, cpuMsMax } of Object.values(results.runaways)) {
      expect(outcome).toBe('policy_fuel');
      expect(cpuMsMax).toBeGreaterThanOrEqual(cpuMs);
    }
  });

  it('sees that keys which collide cost fuel that others do not', () => {
    const { colliding, plain } = results.flood;
    expect(plain.outcome).toBe('ended by itself');
    expect(colliding.fuelUsed).toBeGreaterThan(plain.fuelUsed);
  });

  it('measures memory by data and a reload of a real decision point', () => {
    expect(results.memory).toHaveLength(1);
    expect(results.memory[0]?.jsonBytes).toBeGreaterThan(20_000);
    expect(results.reload?.dataBytes).toBe(100_000);
    expect(results.reload?.reloadMs).toBeGreaterThan(0);
    expect(results.reload?.during.decideMs).toBeGreaterThan(0);
    expect(results.reload?.during.turnMs).toBeGreaterThanOrEqual(0);
  });

  it('prints what is wanted beside what was reached', () => {
    const text = reportEngine(results);
    expect(text).toMatch(/boolean and flat answers, ours \/ sdk, p50 +<= 0\.85 +\d/);
    expect(text).toMatch(/reload stalls the event loop, ms +<= 10 +\d/);
  });
});
