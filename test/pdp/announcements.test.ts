import { createAnnouncements } from '../../services/pdp/announcements.ts';
import type { LoadedArchive, PolicySnapshot } from '../../services/pdp/policy/policy-set.ts';
import { applyChange, NOTHING_PUSHED } from '../../services/pdp/core/pushed-data.ts';

describe('announcements', () => {
  it('of a push send its state, and the bundles only when their set is another', () => {
    let data = NOTHING_PUSHED;
    const told: string[] = [];
    const { announce } = createAnnouncements(
      {
        recordActivation: (_, { set }) => void told.push(`active ${set}`),
        sendArtifact: (_, { digest }) => void told.push(`bundle ${digest}`),
        sendState: (_, root) => void told.push(`state ${root}`),
      },
      { isKnown: () => true, dataOf: () => data, artifactsOf: () => () => [] },
    );
    const archives = [{ digest: 'sha256:b', whole: Buffer.from('b') }] as unknown as readonly LoadedArchive[];
    const snapshot = (setDigest: string) => ({ bundles: [], setDigest }) as unknown as PolicySnapshot;
    const push = (value: number): string => {
      data = applyChange(data, { op: 'put', path: ['x'], value }, value, 1_000);
      return `state ${data.identity?.digest}`;
    };
    announce('acme', snapshot('one'), archives);
    expect(told.splice(0)).toEqual(['active one', 'bundle sha256:b']);
    const first = push(1);
    announce('acme', snapshot('one'), archives);
    announce('acme', snapshot('one'), archives);
    expect(told.splice(0)).toEqual(['active one', first]);
    announce('acme', snapshot('two'), archives);
    expect(told.splice(0)).toEqual(['active two', 'bundle sha256:b', first]);
  });
});
