/** Whether a set of bundles may still answer as it does. */
export type FreshnessState =
  /** `untilMs`: no answer may be reused after it, milliseconds since 1970. */
  | { readonly state: 'fresh'; readonly untilMs: number | undefined }
  /** `denies`: an allow becomes a deny; else the answer says that the policy is stale. */
  | { readonly state: 'stale'; readonly denies: boolean; readonly message: string };

/** Asked at each decision; must not wait. */
export type Freshness = (nowMs: number) => FreshnessState;
