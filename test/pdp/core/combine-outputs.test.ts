import fc from 'fast-check';
import { combineOutputs, type NamedOutput } from '../../../services/pdp/core/combine-outputs.ts';
import type { PolicyOutput } from '../../../services/shared/contracts/policy-io.ts';

const output = (change: Partial<PolicyOutput> = {}): PolicyOutput => ({
  version: 1,
  allow: true,
  reasons: [{ code: 'fine' }],
  obligations: [],
  advice: [],
  legs: { subject: true },
  ...change,
});
const named = (...outputs: readonly PolicyOutput[]): readonly NamedOutput[] =>
  outputs.map((each, i) => ({ bundle: `b${i}`, output: each }));

describe('the answer of several bundles', () => {
  it('is a denial when there is no bundle', () => {
    expect(combineOutputs([]).allow).toBe(false);
  });

  it('allows exactly when each bundle allows', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }), (allows) => {
        const combined = combineOutputs(named(...allows.map((allow) => output({ allow }))));
        expect(combined.allow).toBe(allows.every(Boolean));
      }),
    );
  });

  it('gives the reasons of those who deny, and no obligations', () => {
    const duty = { id: 'o1', type: 'log' };
    const denied = combineOutputs(
      named(output({ obligations: [duty] }), output({ allow: false, reasons: [{ code: 'no' }], obligations: [duty] })),
    );
    expect(denied).toMatchObject({ allow: false, reasons: [{ code: 'no' }], obligations: [] });
  });

  it('keeps every obligation, and apart what has one id', () => {
    const one = output({
      obligations: [
        { id: 'o1', type: 'log' },
        { id: 'o2', type: 'log' },
      ],
    });
    const two = output({ obligations: [{ id: 'o1', type: 'redact' }] });
    const ids = combineOutputs(named(one, two)).obligations.map((duty) => duty.id);
    expect(ids).toEqual(['b0/o1', 'o2', 'b1/o1']);
  });

  it('permits a leg only when every bundle that names it does', () => {
    const combined = combineOutputs(
      named(output({ legs: { subject: true, agent: true } }), output({ legs: { subject: false } })),
    );
    expect(combined.legs).toEqual({ subject: false, agent: true });
  });

  it('is reused only as long as each bundle permits, and not at all when one is silent', () => {
    expect(combineOutputs(named(output({ expires_in_s: 5 }), output({ expires_in_s: 2 }))).expires_in_s).toBe(2);
    expect(combineOutputs(named(output({ expires_in_s: 5 }), output())).expires_in_s).toBeUndefined();
  });

  it('carries the session labels of all', () => {
    const combined = combineOutputs(
      named(output({ session: { labels: ['b', 'a'] } }), output({ session: { labels: ['c', 'a'] } }), output()),
    );
    expect(combined.session).toEqual({ labels: ['a', 'b', 'c'] });
  });
});
