import fc from 'fast-check';
import { createEngineShelf, type EngineShelf, type Place } from '../../../services/pdp/core/engine-shelf.ts';

const shelfOf = (maxEngines: number, maxBytes: number) => {
  const shelf = createEngineShelf({ maxEngines, maxBytes });
  const released: string[] = [];
  const add = (name: string, bytes: number): Place => {
    const admission = shelf.admit(bytes, () => released.push(name));
    if (admission.kind !== 'admitted') throw new Error(admission.kind);
    return admission.place;
  };
  return { shelf, released, add };
};

describe('the shelf of engines', () => {
  it('lets the one go that was not used for longest, when there are too many', () => {
    const { shelf, released, add } = shelfOf(3, 100);
    const [a, b] = [add('a', 1), add('b', 1)];
    add('c', 1);
    a.use(1);
    add('d', 1);
    expect(released).toEqual(['b']);
    expect([a.isLive(), b.isLive()]).toEqual([true, false]);
    add('e', 1);
    expect(released).toEqual(['b', 'c']);
    expect(shelf.status()).toEqual({ live: 3, bytes: 3, made: 5, evicted: 2 });
  });

  it('lets as many go as one needs the bytes of', () => {
    const { shelf, released, add } = shelfOf(10, 100);
    for (const name of ['a', 'b', 'c']) add(name, 30);
    add('d', 65);
    expect(released).toEqual(['a', 'b']);
    expect(shelf.status()).toMatchObject({ live: 2, bytes: 95 });
  });

  it('lets others go for one that grew, and then that one when it alone is too large', () => {
    const { shelf, released, add } = shelfOf(10, 100);
    const a = add('a', 30);
    add('b', 30);
    a.use(80);
    expect(released).toEqual(['b']);
    a.use(101);
    expect(released).toEqual(['b', 'a']);
    expect(a.isLive()).toBe(false);
    a.use(5);
    expect(shelf.status()).toEqual({ live: 0, bytes: 0, made: 2, evicted: 2 });
  });

  it('says that one can never fit, and touches nobody for it', () => {
    const { shelf, released, add } = shelfOf(10, 100);
    add('a', 100);
    expect(shelf.admit(101, () => undefined).kind).toBe('too_large');
    expect(released).toEqual([]);
  });

  it('takes nothing from one that is being made', () => {
    const { shelf, released, add } = shelfOf(1, 100);
    const a = add('a', 1);
    a.setReady(false);
    expect(shelf.admit(1, () => undefined).kind).toBe('busy');
    a.setReady(true);
    add('b', 1);
    expect(released).toEqual(['a']);
  });

  it('takes nothing from anybody for one that may only stand beside', () => {
    const { shelf, released, add } = shelfOf(2, 100);
    add('a', 60);
    expect(shelf.admitBeside(60, () => undefined)).toBeUndefined();
    expect(shelf.admitBeside(40, () => released.push('beside'))?.isLive()).toBe(true);
    expect(shelf.admitBeside(0, () => undefined)).toBeUndefined();
    expect(released).toEqual([]);
    add('b', 1);
    expect(released).toEqual(['a']);
  });

  it('releases nobody who left, and nobody twice', () => {
    const { shelf, released, add } = shelfOf(2, 100);
    const [a, b] = [add('a', 60), add('b', 40)];
    a.drop();
    shelf.clear(b);
    expect(released).toEqual([]);
    shelf.clear(undefined);
    shelf.clear(undefined);
    b.drop();
    expect(released).toEqual(['b']);
    expect(shelf.status()).toMatchObject({ live: 0, bytes: 0 });
  });

  it('keeps its bounds and its sums, whatever is done', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('admit' as const), bytes: fc.nat(60) }),
      fc.record({ do: fc.constant('use' as const), which: fc.nat(9), bytes: fc.nat(120) }),
      fc.record({ do: fc.constant('drop' as const), which: fc.nat(9) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const shelf: EngineShelf = createEngineShelf({ maxEngines: 4, maxBytes: 100 });
        const all: { place: Place; bytes: number; releases: number; isDropped: boolean }[] = [];
        for (const each of steps) {
          const one = 'which' in each ? all[each.which % Math.max(1, all.length)] : undefined;
          if (each.do === 'admit') {
            const entry = { bytes: each.bytes, releases: 0, isDropped: false };
            const admission = shelf.admit(each.bytes, () => (found.releases += 1));
            const found = Object.assign(entry, { place: (admission as { place: Place }).place });
            expect(admission.kind).toBe('admitted');
            all.push(found);
          } else if (one !== undefined && each.do === 'use') {
            if (one.place.isLive()) one.bytes = each.bytes;
            one.place.use(each.bytes);
          } else if (one !== undefined) {
            one.isDropped ||= one.place.isLive();
            one.place.drop();
          }
          const live = all.filter(({ place }) => place.isLive());
          const { live: count, bytes, evicted } = shelf.status();
          expect(count).toBe(live.length);
          expect(bytes).toBe(live.reduce((sum, entry) => sum + entry.bytes, 0));
          expect(count).toBeLessThanOrEqual(4);
          expect(bytes).toBeLessThanOrEqual(100);
          for (const { place, releases, isDropped } of all) expect(releases).toBe(place.isLive() || isDropped ? 0 : 1);
          expect(evicted).toBe(all.reduce((sum, { releases }) => sum + releases, 0));
        }
      }),
    );
  });
});
