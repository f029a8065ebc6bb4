import { createHmac } from 'node:crypto';
import { compileMask, omittedValue, type MaskedMembers, type MaskKey } from '../../../services/pdp/core/mask.ts';

const key: MaskKey = { key: Buffer.alloc(32, 7), id: '01234567' };
const hmac = (text: string): string => createHmac('sha256', key.key).update(text).digest('hex');
const placeholder = (text: string) => ({ masked: hmac(text), key: '01234567' });

const members = (): MaskedMembers => ({
  input: {
    subject: { id: 'alice', properties: { b: 1, a: 2 } },
    'a/b~c': 'x',
    list: [{ v: 1 }, { v: 2 }],
    masked: 'plain',
  },
  reasons: [{ code: 'c', message: 'm' }],
  obligations: [],
  advice: [],
});
const apply = (...pointers: readonly string[]) => {
  const document = members();
  const result = compileMask(pointers)(document, key);
  return { ...result, document };
};

describe('masking', () => {
  it('replaces a member by the HMAC of its canonical JSON', () => {
    const { document, inputMasked } = apply('/input/subject/properties');
    expect(inputMasked).toBe(true);
    expect(document.input).toMatchObject({ subject: { id: 'alice', properties: placeholder('{"a":2,"b":1}') } });
  });

  it('reads escaped pointers', () => {
    expect(apply('/input/a~1b~0c').document.input).toMatchObject({ 'a/b~c': placeholder('"x"') });
  });

  it('takes one element, or every element with *', () => {
    expect(apply('/input/list/1/v').document.input).toMatchObject({ list: [{ v: 1 }, { v: placeholder('2') }] });
    expect(apply('/input/list/*/v').document.input).toMatchObject({
      list: [{ v: placeholder('1') }, { v: placeholder('2') }],
    });
  });

  it('masks reasons without calling the input masked', () => {
    const { document, inputMasked } = apply('/reasons/*/message');
    expect(inputMasked).toBe(false);
    expect(document.reasons).toEqual([{ code: 'c', message: placeholder('"m"') }]);
  });

  it.each([
    [['/input/subject', '/input/subject/id']],
    [['/input/subject/id', '/input/subject']],
    [['/input/subject', '/input/subject/masked', '/input/subject']],
  ])('masks %j whole, once', (pointers) => {
    expect(apply(...pointers).document.input).toMatchObject({
      subject: placeholder('{"id":"alice","properties":{"a":2,"b":1}}'),
    });
  });

  it.each([
    '/input/nothing',
    '/input/subject/id/deeper',
    '/input/list/7',
    '/input/list/length',
    '/other',
    '/input/toString',
  ])('leaves everything alone where %s finds nothing', (pointer) => {
    const { document, inputMasked } = apply(pointer);
    expect(document).toEqual(members());
    expect(inputMasked).toBe(false);
  });

  it('masks a member called __proto__ without touching the prototype', () => {
    const input = JSON.parse('{"__proto__":{"secret":1}}') as object;
    compileMask(['/input/__proto__'])({ input, reasons: [], obligations: [], advice: [] }, key);
    expect(JSON.stringify(input)).toBe(`{"__proto__":${JSON.stringify(placeholder('{"secret":1}'))}}`);
    expect(Object.getPrototypeOf(input)).toBe(Object.prototype);
  });

  it('states the bytes of what was omitted', () => {
    expect(omittedValue('{"ä":1}', key)).toEqual({ omitted: hmac('{"ä":1}'), bytes: 8 });
  });
});
