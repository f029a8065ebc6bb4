import { reusedSerials } from '../../services/pdp/status.ts';

describe('reused serials', () => {
  const bundle = (name: string, serial: number, digest: string) => ({ name, serial, digest });
  const before = [bundle('mesh', 3, 'a'), bundle('limits', 1, 'b')];

  it('are those of bundles that have another content under the name and serial of before', () => {
    expect(reusedSerials(before, [bundle('mesh', 3, 'c'), bundle('limits', 1, 'b')])).toEqual(['mesh 3']);
  });

  it('are none where the serial went on, the content is the same, or the bundle is new', () => {
    expect(reusedSerials(before, [bundle('mesh', 4, 'c'), bundle('limits', 1, 'b'), bundle('more', 3, 'd')])).toEqual(
      [],
    );
    expect(reusedSerials([], before)).toEqual([]);
  });
});
