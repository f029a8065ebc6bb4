/** An engine that has memory. Whoever made it holds its place for as long as it has any. */
export interface Place {
  /** False once it was given up, by whomever. */
  readonly isLive: () => boolean;
  /** It was used just now, and has so many bytes. Others give up theirs for it; when that is not enough, it does too. */
  readonly use: (bytes: number) => void;
  /** It is being made, or is ready: only what is ready may have to go. */
  readonly setReady: (isReady: boolean) => void;
  /** Nobody needs it any more. Its memory is not asked for. */
  readonly drop: () => void;
}

export type Admission =
  | { readonly kind: 'admitted'; readonly place: Place }
  /** It would not fit if it were the only one. */
  | { readonly kind: 'too_large' }
  /** What is here is being made. Later there may be room. */
  | { readonly kind: 'busy' };

export interface EngineShelf {
  /**
   * A place for an engine that is about to take `bytes`; engines that were not used for longest give up theirs.
   * `release` gives up all its memory at once; it is called at most once.
   */
  readonly admit: (bytes: number, release: () => void) => Admission;
  /** The same, but only where there is room already. */
  readonly admitBeside: (bytes: number, release: () => void) => Place | undefined;
  /** The machine has no more memory: all that is ready, but for `kept`, gives up its own. */
  readonly clear: (kept: Place | undefined) => void;
  readonly status: () => ShelfStatus;
}

export interface ShelfStatus {
  readonly live: number;
  readonly bytes: number;
  /** Since the start. */
  readonly made: number;
  readonly evicted: number;
}

interface Seat {
  bytes: number;
  usedAt: number;
  isReady: boolean;
  readonly place: Place;
  readonly release: () => void;
}

/** At most `maxEngines` live engines that have at most `maxBytes` together, the last used ones. */
export const createEngineShelf = (limits: { readonly maxEngines: number; readonly maxBytes: number }): EngineShelf => {
  const seats = new Set<Seat>();
  let uses = 0;
  let bytesTotal = 0;
  let made = 0;
  let evicted = 0;

  const leave = (seat: Seat): boolean => {
    const wasHere = seats.delete(seat);
    if (wasHere) bytesTotal -= seat.bytes;
    return wasHere;
  };
  const evict = (seat: Seat): void => {
    if (!leave(seat)) return;
    evicted += 1;
    seat.release();
  };
  const oldest = (but: Seat | undefined): Seat | undefined => {
    let found: Seat | undefined;
    for (const seat of seats)
      if (seat !== but && seat.isReady && (found === undefined || seat.usedAt < found.usedAt)) found = seat;
    return found;
  };
  const fits = (more: number, bytes: number): boolean =>
    seats.size + more <= limits.maxEngines && bytesTotal + bytes <= limits.maxBytes;

  const sit = (bytes: number, release: () => void): Place => {
    const place: Place = {
      isLive: () => seats.has(seat),
      use(now) {
        if (!seats.has(seat)) return;
        seat.usedAt = uses += 1;
        if (now === seat.bytes) return;
        bytesTotal += now - seat.bytes;
        seat.bytes = now;
        while (!fits(0, 0)) {
          const other = oldest(seat);
          evict(other ?? seat);
          if (other === undefined) return;
        }
      },
      setReady(isReady) {
        seat.isReady = isReady;
      },
      drop: () => void leave(seat),
    };
    const seat: Seat = { bytes, usedAt: (uses += 1), isReady: true, place, release };
    seats.add(seat);
    bytesTotal += bytes;
    made += 1;
    return place;
  };

  return {
    admit(bytes, release) {
      if (bytes > limits.maxBytes) return { kind: 'too_large' };
      while (!fits(1, bytes)) {
        const seat = oldest(undefined);
        if (seat === undefined) return { kind: 'busy' };
        evict(seat);
      }
      return { kind: 'admitted', place: sit(bytes, release) };
    },
    admitBeside: (bytes, release) => (fits(1, bytes) ? sit(bytes, release) : undefined),
    clear(kept) {
      for (const seat of seats) if (seat.isReady && seat.place !== kept) evict(seat);
    },
    status: () => ({ live: seats.size, bytes: bytesTotal, made, evicted }),
  };
};
