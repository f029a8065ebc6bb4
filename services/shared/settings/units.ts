const SIZE = /^(\d+)\s*(B|KiB|MiB|GiB)?$/;
const DURATION = /^(\d+)\s*(ms|s|m|h|d)$/;
const SIZE_UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export const SIZE_PATTERN = SIZE.source;
export const DURATION_PATTERN = DURATION.source;

/** Bytes of `16MiB`, `900 KiB`, `4096`. The text was checked against `SIZE_PATTERN` before. */
export const sizeBytes = (text: string): number => {
  const [, amount = '0', unit = 'B'] = SIZE.exec(text) ?? [];
  return Number(amount) * (SIZE_UNITS[unit] ?? 1);
};

/** Milliseconds of `60s`, `24h`, `250ms`. The text was checked against `DURATION_PATTERN` before. */
export const durationMs = (text: string): number => {
  const [, amount = '0', unit = 'ms'] = DURATION.exec(text) ?? [];
  return Number(amount) * (DURATION_UNITS[unit] ?? 1);
};
