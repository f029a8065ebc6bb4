import fc from 'fast-check';
import { canonicalJson } from '../../../services/shared/contracts/json.ts';
import { mergeObligations } from '../../../services/pdp/core/obligations.ts';

describe('merging obligations', () => {
  it('drops what is asked for twice, whatever the order of the properties', () => {
    expect(
      mergeObligations([
        { id: 'a', type: 'redact', properties: { columns: ['x'], paths: ['/y'] } },
        { id: 'b', type: 'redact', properties: { paths: ['/y'], columns: ['x'] } },
        { id: 'c', type: 'redact', properties: { columns: ['z'] } },
      ]).map(({ id }) => id),
    ).toEqual(['a', 'c']);
  });

  it('gives properties where the policy gave none', () => {
    expect(mergeObligations([{ id: 'a', type: 'log' }])).toEqual([{ id: 'a', type: 'log', properties: {} }]);
  });

  it('keeps every distinct content once and never repeats an id', () => {
    const duty = fc.record({
      id: fc.constantFrom('a', 'b', 'a#2'),
      type: fc.constantFrom('log', 'notify'),
      properties: fc.dictionary(fc.constantFrom('x', '__proto__'), fc.integer({ min: 0, max: 2 })),
    });
    fc.assert(
      fc.property(fc.array(duty, { maxLength: 12 }), (duties) => {
        const merged = mergeObligations(duties);
        const content = (list: readonly { type: string; properties: unknown }[]): Set<string> =>
          new Set(list.map(({ type, properties }) => canonicalJson([type, properties])));
        expect(new Set(merged.map(({ id }) => id)).size).toBe(merged.length);
        expect(merged.length).toBe(content(merged).size);
        expect(content(merged)).toEqual(content(duties));
      }),
    );
  });
});
