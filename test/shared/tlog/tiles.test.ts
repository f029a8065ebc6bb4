import fc from 'fast-check';
import {
  encodeBundle,
  formatTilePath,
  isTileIn,
  parseTilePath,
  type Tile,
} from '../../../services/shared/tlog/tiles.ts';

describe('the paths of tiles', () => {
  it('are those of the specification', () => {
    const tile: Tile = { content: 'hashes', level: 2, index: 1_234_067n, width: 112 };
    expect(formatTilePath(tile)).toBe('2/x001/x234/067.p/112');
    expect(formatTilePath({ content: 'entries', level: 0, index: 67n, width: 256 })).toBe('entries/067');
    expect(parseTilePath('2/x001/x234/067.p/112')).toEqual(tile);
  });

  it('name one tile each', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 63 }),
        fc.bigInt(0n, 2n ** 55n),
        fc.integer({ min: 1, max: 256 }),
        fc.boolean(),
        (level, index, width, isEntries) => {
          const tile: Tile = isEntries
            ? { content: 'entries', level: 0, index, width }
            : { content: 'hashes', level, index, width };
          expect(parseTilePath(formatTilePath(tile))).toEqual(tile);
        },
      ),
    );
  });

  it.each([
    '',
    '0',
    '0/',
    '00/000',
    '64/000',
    '-1/000',
    'x/000',
    '0/0',
    '0/0000',
    '0/x000',
    '0/x000/001',
    '0/001/002',
    '0/x01/002',
    '0/000/',
    '0/000.p',
    '0/000.p/',
    '0/000.p/0',
    '0/000.p/01',
    '0/000.p/256',
    '0/000.p/1/2',
    '0/000/1',
    'entries',
    'entries/000.p/-1',
    '0/x999/x999/x999/x999/x999/x999/x999/999',
    '0/../000',
    '0/٠٠٠',
  ])('are not spelt %j', (path) => {
    expect(parseTilePath(path)).toBeUndefined();
  });

  it('never throw, whatever is asked', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789x./pentris'.split('')) }), (path) => {
        const tile = parseTilePath(path);
        expect(tile === undefined || tile.width <= 256).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('what a tree of a size has', () => {
  /** The example of the specification: 70,000 entries. */
  it.each([
    ['0/x000'.replace('x', ''), true],
    ['0/272', true],
    ['0/273', false],
    ['0/273.p/112', true],
    ['0/273.p/113', false],
    ['1/000', true],
    ['1/001.p/17', true],
    ['1/001.p/18', false],
    ['2/000.p/1', true],
    ['2/000.p/2', false],
    ['3/000.p/1', false],
    ['63/000.p/1', false],
    ['entries/273.p/112', true],
    ['entries/274.p/1', false],
  ])('%s of 70,000 entries: %s', (path, expected) => {
    expect(isTileIn(parseTilePath(path)!, 70_000n)).toBe(expected);
  });
});

describe('entry bundles', () => {
  it('are entries behind their length', () => {
    expect(encodeBundle([Buffer.from('a'), Buffer.alloc(0), Buffer.alloc(65_535, 1)])).toEqual(
      Buffer.concat([Buffer.from([0, 1, 97, 0, 0, 255, 255]), Buffer.alloc(65_535, 1)]),
    );
    expect(() => encodeBundle([Buffer.alloc(65_536)])).toThrow('65535');
  });
});
