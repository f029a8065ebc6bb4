import { rfc3339 } from '../../../services/shared/contracts/rfc3339.ts';

describe('the text of a time', () => {
  it('is that of the time asked for, whatever was asked before', () => {
    for (const ms of [0, 0, 1_767_225_600_123, 1_767_225_600_124, 1_767_225_600_123, 0])
      expect(rfc3339(ms)).toBe(new Date(ms).toISOString());
  });

  it('is refused for what is no time, again and again', () => {
    for (let i = 0; i < 2; i += 1) expect(() => rfc3339(Number.NaN)).toThrow(RangeError);
    expect(rfc3339(1)).toBe('1970-01-01T00:00:00.001Z');
  });
});
