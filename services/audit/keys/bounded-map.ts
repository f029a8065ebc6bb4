/** A map of at most `limit` members; the one that was used longest ago goes first. */
export interface BoundedMap<Value> {
  readonly get: (key: string) => Value | undefined;
  readonly set: (key: string, value: Value) => void;
  readonly delete: (key: string) => void;
  readonly clear: () => void;
}

export const createBoundedMap = <Value>(limit: number): BoundedMap<Value> => {
  const members = new Map<string, Value>();
  return {
    get: (key) => {
      const value = members.get(key);
      if (value === undefined) return undefined;
      members.delete(key);
      members.set(key, value);
      return value;
    },
    set: (key, value) => {
      members.delete(key);
      members.set(key, value);
      if (members.size > limit) {
        const [oldest] = members.keys();
        if (oldest !== undefined) members.delete(oldest);
      }
    },
    delete: (key) => {
      members.delete(key);
    },
    clear: () => members.clear(),
  };
};
