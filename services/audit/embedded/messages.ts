/** What the parent asks of the process that holds the embedded database. Sent with serialization 'advanced'. */
export interface EmbeddedRequest {
  readonly id: number;
  readonly text: string;
  readonly parameters?: readonly unknown[];
}

export type EmbeddedAnswer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly code: 'database_locked' | 'ledger_corrupt'; readonly message: string }
  | { readonly kind: 'rows'; readonly id: number; readonly rows: readonly unknown[] }
  | {
      readonly kind: 'error';
      readonly id: number;
      readonly message: string;
      readonly sqlstate?: string;
      readonly constraint?: string;
    };

/** Command-line arguments of the process: what to do, with which folder. */
export type EmbeddedMode = 'initialize' | 'serve';
