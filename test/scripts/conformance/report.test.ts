import { differencesText } from '../../../scripts/conformance/report.ts';

const told = (wanted: string): string =>
  differencesText([
    { name: 'sprintf', total: 1, differences: [{ call: 'sprintf("%d", [1e9])', wanted, given: 'undefined' }] },
  ]);

describe('the report of the conformance run', () => {
  it('prints differences as they are', () => {
    expect(told('"1"')).toBe('sprintf("%d", [1e9])\n    OPA:  "1"\n    ours: undefined\n');
  });

  it('prints of a very long number where it begins, where it ends, and how long it is', () => {
    const text = told(`1${'0'.repeat(999_998)}7`);
    expect(text.length).toBeLessThan(400);
    expect(text).toMatch(/OPA: {2}10+ … 0+7 \(1000000 characters\)/);
  });
});
