/** Below it a retention period must say that somebody wanted it so (EU AI Act, articles 19 and 26: six months). */
export const RETENTION_FLOOR_DAYS = 183;
