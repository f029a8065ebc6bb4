import { createDataOwners } from '../../../services/pdp/core/data-owners.ts';
import type { Pushed } from '../../../services/pdp/core/data-stream.ts';
import {
  applyChange,
  NOTHING_PUSHED,
  type DataChange,
  type PushedData,
} from '../../../services/pdp/core/pushed-data.ts';

const put = (path: readonly string[]): DataChange => ({ op: 'put', path, value: 1 });
const APPLIED: Pushed = { kind: 'applied', identity: { revision: 0, digest: '' } };

describe('who owns the data', () => {
  let data: PushedData;
  let finish: (() => void)[];
  const owners = () => {
    data = NOTHING_PUSHED;
    finish = [];
    return createDataOwners({
      dataOf: (tenant) => (tenant === 'acme' ? data : NOTHING_PUSHED),
      push: (tenant, change) =>
        new Promise((resolve) => {
          finish.push(() => {
            if (tenant === 'acme') data = applyChange(data, change, 0, 1_000);
            resolve(APPLIED);
          });
        }),
    });
  };
  const finishAll = (): void => {
    for (const each of finish.splice(0)) each();
  };

  it('refuses a push inside the roots of the set that decides, and of one that is about to', async () => {
    const { push, claim } = owners();
    expect(await push('acme', put(['mesh', 'x']), [['mesh']])).toMatchObject({ kind: 'owned' });
    const settled = await claim(['acme'], [['users']]);
    expect(await push('acme', put(['users', 'bob']), [['mesh']])).toMatchObject({ kind: 'owned' });
    const others = [push('acme', put(['groups']), [['mesh']]), push('globex', put(['users']), [['mesh']])];
    finishAll();
    expect(await Promise.all(others)).toEqual([APPLIED, APPLIED]);
    settled();
    const after = push('acme', put(['users', 'bob']), [['mesh']]);
    finishAll();
    expect(await after).toEqual(APPLIED);
  });

  it('lets a set wait for the pushes inside its roots, and for no others', async () => {
    const { push, claim } = owners();
    const others = [push('acme', put(['groups']), []), push('globex', put(['users']), [])];
    (await claim(['acme'], [['users']]))();
    finishAll();
    await Promise.all(others);
    const pushed = push('acme', put(['users', 'bob']), []);
    const claimed = claim(['acme'], [['users']]);
    finishAll();
    await expect(claimed).rejects.toMatchObject({ code: 'bundle_invalid' });
    expect(await pushed).toEqual(APPLIED);
    // The refused set claims nothing any more.
    const again = push('acme', put(['users', 'carol']), []);
    finishAll();
    expect(await again).toEqual(APPLIED);
  });

  it('forgets a push that failed', async () => {
    const { push, claim } = createDataOwners({
      dataOf: () => NOTHING_PUSHED,
      push: () => Promise.reject(new Error('no room')),
    });
    await expect(push('acme', put(['users']), [])).rejects.toThrow('no room');
    (await claim(['acme'], [[]]))();
  });
});
