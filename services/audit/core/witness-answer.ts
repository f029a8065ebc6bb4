import { parseTreeSizeBody, TREE_SIZE_TYPE } from '../../shared/tlog/add-checkpoint.ts';
import { openCosignatures, type Cosignature, type WitnessKey } from '../../shared/tlog/cosignature.ts';

/** How far a witness’s clock may be from ours: later or earlier cosignatures say nothing about now. */
const MAX_CLOCK_DIFFERENCE_S = 300;

/** What a witness answered to `add-checkpoint`, its body cut off at a bound. */
export interface WitnessResponse {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** What that means (C2SP tlog-witness). */
export type WitnessAnswer =
  | { readonly kind: 'cosigned'; readonly cosignature: Cosignature }
  /** It has a checkpoint of this size, and wants the proof from there. */
  | { readonly kind: 'has'; readonly size: bigint }
  /** It has another tree of this log, or the proof did not convince it. */
  | { readonly kind: 'contradicts' }
  | { readonly kind: 'failed'; readonly reason: string };

const failed = (reason: string): WitnessAnswer => ({ kind: 'failed', reason });

/** The checkpoint that was sent, and the size that the proof goes from. */
export interface SentCheckpoint {
  readonly note: Uint8Array;
  readonly size: bigint;
  readonly oldSize: bigint;
}

/** Believes nothing but a signature of the witness’s own key over what was sent, made now. */
export const readWitnessAnswer = (
  { status, contentType, body }: WitnessResponse,
  { note, size: sentSize, oldSize }: SentCheckpoint,
  witness: WitnessKey,
  nowS: number,
): WitnessAnswer => {
  if (status === 409) {
    const size = contentType.split(';')[0]?.trim() === TREE_SIZE_TYPE ? parseTreeSizeBody(body) : undefined;
    // It has a checkpoint of this size, and no proof is left that could be wrong: its root is another (C2SP tlog-witness).
    if (oldSize === sentSize && (size === undefined || size === sentSize)) return { kind: 'contradicts' };
    return size === undefined ? failed('answered 409 without the size that it has') : { kind: 'has', size };
  }
  if (status === 422) return { kind: 'contradicts' };
  if (status === 404) return failed('does not know this log');
  if (status === 403) return failed('has another key of this log');
  if (status !== 200) return failed(`answered ${status}`);
  const cosignatures = openCosignatures(Buffer.concat([note, Buffer.from(body, 'utf8')]), [witness]);
  const [cosignature] = cosignatures ?? [];
  if (cosignature === undefined) return failed('gave no cosignature of its key over this checkpoint');
  return Math.abs(cosignature.timeS - nowS) > MAX_CLOCK_DIFFERENCE_S
    ? failed(`gave a cosignature of another time (${cosignature.timeS}, now is ${nowS})`)
    : { kind: 'cosigned', cosignature };
};
