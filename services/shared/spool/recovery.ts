import { join } from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { segmentFileName } from './format.ts';
import {
  listSegments,
  readSegmentHeader,
  scanSummary,
  sealedSummary,
  syncedBehind,
  type SegmentSummary,
} from './segments.ts';

/**
 * What the segments in `directory` hold. The last one may end in a torn record: its summary stops before that, and
 * the writer cuts it off. Throws `spool_corrupt` when a record that was durable once cannot be read, when a segment
 * is missing in between, or when a segment is another emitter's.
 */
export const recoverSegments = (directory: string, emitter: string): SegmentSummary[] => {
  const bases = listSegments(directory);
  const summaries = bases.map((base, index): SegmentSummary => {
    const path = join(directory, segmentFileName(base));
    if (readSegmentHeader(path, base).emitter !== emitter)
      throw new AppError('spool_corrupt', `${path}: is the segment of another emitter`);
    if (index < bases.length - 1) return sealedSummary(directory, base);
    const { summary, end } = scanSummary(directory, base);
    // Whole records behind the fault that were written when the disk already had the faulty place: not a torn tail.
    if (end.fault !== undefined && syncedBehind(path, end.position) > end.position)
      throw new AppError('spool_corrupt', `${path}: record ${base + BigInt(summary.records)}: ${end.fault}`);
    return summary;
  });
  summaries.forEach((summary, index) => {
    const following = summaries[index + 1];
    if (following !== undefined && summary.base + BigInt(summary.records) !== following.base)
      throw new AppError(
        'spool_corrupt',
        `${directory}: records ${summary.base + BigInt(summary.records)} to ${following.base - 1n} are missing`,
      );
  });
  return summaries;
};
