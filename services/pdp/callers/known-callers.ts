import { createAuthenticate, developmentCaller } from '../../shared/callers/api-keys.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { isLoopback, parseListen } from '../../shared/runtime/http-server.ts';
import type { PrepareReload } from '../../shared/runtime/reload.ts';
import type { Caller, Settings } from '../../shared/settings/schema.ts';

export interface KnownCallers {
  /**
   * The caller of a request, or undefined. Never throws. A `connection` that brought a good key once is believed when it
   * brings the same one again, until callers change: it is not checked anew for every request.
   */
  readonly identify: (authorization: string | undefined, connection?: object) => Caller | undefined;
  /** True while nobody has to say who they are: loopback, no `callers`. */
  readonly isOpen: () => boolean;
  readonly reload: PrepareReload;
}

/** Throws `settings_invalid` for a listener that others can reach while nobody has to say who they are. */
const refuseOpenListener = (settings: Settings): void => {
  const { host } = parseListen(settings.pdp.listen);
  if (settings.callers.length > 0 || isLoopback(host)) return;
  const problems = [
    `/pdp/listen: ${settings.pdp.listen} can be reached from other machines, so /callers must name who may ask`,
    '/callers: none are set; `edict keys new` makes a key',
  ];
  throw new AppError('settings_invalid', problems.join('; '), { details: { problems } });
};

/** `onChange` is told the ids that are known from now on. */
export const createKnownCallers = (
  initial: Settings,
  onChange: (ids: ReadonlySet<string>) => void = () => undefined,
): KnownCallers => {
  const read = (settings: Settings) => {
    refuseOpenListener(settings);
    return {
      authenticate: createAuthenticate(settings.callers),
      open: settings.callers.length === 0 ? developmentCaller(settings) : undefined,
      ids: new Set(settings.callers.map(({ id }) => id)),
    };
  };
  let current = read(initial);
  /** Nobody learns a key from how long the comparison takes: only who has it gets an entry, and only for their own. */
  let identified = new WeakMap<object, { readonly authorization: string; readonly caller: Caller }>();

  const identify: KnownCallers['identify'] = (authorization, connection) => {
    if (current.open !== undefined) return current.open;
    const before = connection === undefined ? undefined : identified.get(connection);
    if (before !== undefined && before.authorization === authorization) return before.caller;
    const caller = current.authenticate(authorization);
    if (connection !== undefined && authorization !== undefined && caller !== undefined)
      identified.set(connection, { authorization, caller });
    return caller;
  };

  return {
    identify,
    isOpen: () => current.open !== undefined,
    reload: (settings) => {
      // The address is fixed at the start, whatever the file says now.
      const next = read({ ...settings, pdp: { ...settings.pdp, listen: initial.pdp.listen } });
      return () => {
        current = next;
        identified = new WeakMap();
        onChange(next.ids);
      };
    },
  };
};
