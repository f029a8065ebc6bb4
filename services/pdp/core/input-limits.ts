/** What one request may be before a policy sees any of it. */
export interface InputLimits {
  /** Of the body; in a batch of an item with its defaults. */
  readonly maxBytes: number;
  /** Containers inside each other; the outermost counts as 1. */
  readonly maxDepth: number;
  /** Of all objects together. */
  readonly maxMembers: number;
}
