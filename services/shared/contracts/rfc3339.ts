let lastMs = Number.NaN;
let lastText = '';

/** RFC 3339, UTC, milliseconds. One decision names its time twice, and others may share the millisecond. */
export const rfc3339 = (unixMs: number): string => {
  if (unixMs !== lastMs) {
    lastText = new Date(unixMs).toISOString();
    lastMs = unixMs;
  }
  return lastText;
};
