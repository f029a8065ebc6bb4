import fc from 'fast-check';
import { canonicalBytesOf, readDocument } from '../../../services/pdp/policy/canonical-document.ts';
import { applyOperations, operationsBetween, operationsOf, patchOf } from '../../../services/pdp/policy/data-patch.ts';
import type { Value } from '../../../services/pdp/policy/engine/value.ts';

const read = (text: string): Value => readDocument('data.json', Buffer.from(text));
const textOf = (value: Value): string => Buffer.from(canonicalBytesOf(value)).toString('utf8');

// Few names and values, so that two documents have much in common; the names are those that go wrong.
const name = fc.constantFrom('a', 'b', '0', '1', '-', '~1', 'x/y', '%2F', '', ' ', '__proto__', 'é😀');
const { document } = fc.letrec<{ document: string; value: string }>((tie) => ({
  document: fc
    .uniqueArray(fc.tuple(name, tie('value')), { maxLength: 4, selector: ([key]) => key })
    .map((members) => `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`),
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.constantFrom('1', '1.0', '1e400', 'null', '"text"', '"a long text that is worth keeping"'),
    fc.array(tie('value'), { maxLength: 5 }).map((items) => `[${items.join(',')}]`),
    tie('document'),
  ),
}));

describe('operations between two documents', () => {
  it('make the one of the other, written as a patch and read again', () => {
    fc.assert(
      fc.property(document, document, (before, after) => {
        const [from, to] = [read(`{"mesh":${before}}`), read(`{"mesh":${after}}`)];
        const operations = operationsBetween(from, to, ([first]) => first === 'mesh');
        if (textOf(from) === textOf(to)) return expect(operations).toEqual([]);
        const received = operationsOf(read(textOf(patchOf(operations))));
        expect(textOf(applyOperations(from, received))).toBe(textOf(to));
      }),
      { numRuns: 2_000 },
    );
  });
});
