import type { DataIdentity, DataChange } from './pushed-data.ts';

export type Pushed =
  | { readonly kind: 'applied'; readonly identity: DataIdentity }
  /** The change cannot be done on the data as it is; nothing changed. */
  | { readonly kind: 'conflict'; readonly pointer: string; readonly message: string };

/**
 * Puts a change into the tenant's ordered stream. Resolves when it is durable and this decision point applied it.
 * Rejects with `data_unavailable` when that is not known within a bounded time: then it may have come into effect, but
 * nothing that others push later is undone by it.
 */
export type PushData = (tenant: string, change: DataChange) => Promise<Pushed>;
