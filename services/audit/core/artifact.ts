import type { Log } from './append.ts';

/** The parts of one artifact that one boot of an emitter sent. */
export interface ArtifactCopy {
  readonly log: Pick<Log, 'id' | 'origin'>;
  readonly emitter: string;
  readonly boot: string;
  readonly mediaType: string;
  readonly bytes: number;
  readonly parts: number;
  /** Different parts that are there. */
  readonly have: number;
}

export type FoundArtifact =
  | {
      readonly state: 'intact';
      readonly copy: ArtifactCopy;
      /** They have the digest that was asked for. */
      readonly bytes: Buffer;
    }
  /** Not all parts of any copy are in the ledger: the best of them. */
  | { readonly state: 'incomplete'; readonly copy: ArtifactCopy }
  /** Of no complete copy the bytes open and have the digest. */
  | { readonly state: 'damaged'; readonly copy: ArtifactCopy; readonly why: string };
