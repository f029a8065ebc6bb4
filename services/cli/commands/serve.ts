import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { AppError } from '../../shared/contracts/errors.ts';
import { isEmbedded, loadSettings, type LoadedSettings } from '../../shared/settings/settings.ts';

type Role = 'pdp' | 'audit' | 'signer' | 'tripwire';

/** What a service tells the process that started it, once it listens. */
interface ReadyMessage {
  readonly ready: Role;
  readonly url: string;
}

const isReady = (message: unknown): message is ReadyMessage =>
  typeof message === 'object' && message !== null && 'ready' in message && 'url' in message;

const ROLES: readonly string[] = ['pdp', 'audit', 'signer', 'tripwire'] satisfies readonly Role[];
const isRole = (service: string): service is Role => ROLES.includes(service);

const RESTARTS_MAX = 5;
const RESTART_WINDOW_MS = 60_000;
const RESTART_DELAY_MS = 1_000;
/** A little more than what the services take for themselves. */
const STOP_DEADLINE_MS = 40_000;

/** Each program is loaded only where it runs. */
const programOf = async (role: Role): Promise<(loaded: LoadedSettings) => Promise<{ readonly url: string }>> => {
  switch (role) {
    case 'pdp':
      return (await import('../../pdp/main.ts')).servePdp;
    case 'audit':
      return (await import('../../audit/main.ts')).serveAudit;
    case 'signer':
      return (await import('../../audit/signer-main.ts')).serveSigner;
    case 'tripwire':
      return (await import('../../audit/tripwire-main.ts')).serveTripwire;
    default:
      return role satisfies never;
  }
};

const serveOne = async (role: Role, loaded: LoadedSettings): Promise<void> => {
  const { url } = await (await programOf(role))(loaded);
  const message: ReadyMessage = { ready: role, url };
  process.send?.(message);
  // Below `serve all`: a parent that is gone closes the channel, and then this service stops as for a signal.
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel?.unref();
};

const shellQuote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const EXAMPLE = {
  subject: { type: 'user', id: 'alice' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
  context: { purpose: 'headcount-report' },
};

const banner = (urls: Readonly<Record<'pdp' | 'audit', string>>, { settings }: LoadedSettings): string =>
  [
    '',
    `  decision point   ${urls.pdp}`,
    `  audit service    ${urls.audit}`,
    `  data             ${settings.home}`,
    '',
    '  Try it:',
    '',
    `    curl -s ${urls.pdp}/decide -H 'content-type: application/json' -d ${shellQuote(JSON.stringify(EXAMPLE))}`,
    '',
    '  Ctrl-C stops all.',
    '',
    '',
  ].join('\n');

/**
 * Runs the services as processes of their own below this one. A service that dies is started again, five times a
 * minute at most; after that everything stops.
 */
const serveAll = async (loaded: LoadedSettings, config: string | undefined, withSigner: boolean): Promise<void> => {
  const main = fileURLToPath(new URL(`../main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));
  const children = new Map<Role, ChildProcess>();
  const urls = new Map<Role, string>();
  const restarts: number[] = [];
  let stopping = false;
  let failed = false;

  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    for (const child of children.values()) child.kill('SIGTERM');
    setTimeout(() => {
      for (const child of children.values()) child.kill('SIGKILL');
    }, STOP_DEADLINE_MS).unref();
  };

  const start = (role: Role, whenReady: () => void, whenGone: () => void): void => {
    const child = fork(main, ['serve', role, ...(config === undefined ? [] : ['--config', config])], {
      // A process group of its own, so that Ctrl-C reaches this process only and the order of stopping is ours.
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    children.set(role, child);
    child.on('message', (message) => {
      if (!isReady(message)) return;
      urls.set(role, message.url);
      whenReady();
    });
    child.once('exit', (code, signal) => {
      children.delete(role);
      if (stopping) return whenGone();
      const now = Date.now();
      restarts.push(now);
      const recent = restarts.filter((at) => now - at < RESTART_WINDOW_MS);
      // A service that never came up has a cause that starting it again does not mend.
      if (!urls.has(role) || recent.length > RESTARTS_MAX) {
        failed = true;
        process.stderr.write(`edict: the ${role} service ended (${signal ?? `exit code ${String(code)}`}); stopping\n`);
        stop();
        return whenGone();
      }
      process.stderr.write(
        `edict: the ${role} service ended (${signal ?? `exit code ${String(code)}`}); starting it again\n`,
      );
      setTimeout(() => (stopping ? whenGone() : start(role, whenReady, whenGone)), RESTART_DELAY_MS);
    });
  };

  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  // The children outlive a killed parent only until their channel to it closes: each then stops itself.
  let announced = false;
  await new Promise<void>((resolve) => {
    const whenReady = (): void => {
      const [pdp, audit] = [urls.get('pdp'), urls.get('audit')];
      if (pdp === undefined || audit === undefined || announced) return;
      announced = true;
      process.stdout.write(banner({ pdp, audit }, loaded));
    };
    const whenGone = (): void => {
      if (children.size === 0) resolve();
    };
    start('audit', whenReady, whenGone);
    start('pdp', whenReady, whenGone);
    if (withSigner) start('signer', whenReady, whenGone);
  });
  if (failed) throw new AppError('internal', 'a service ended');
  process.stdout.write('edict: stopped\n');
};

export const serveCommand = (): Command =>
  new Command('serve')
    .description('run the policy decision point, the audit service, the signer, the tripwire, or all')
    .argument('<service>', 'pdp, audit, signer, tripwire or all')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .addHelpText(
      'after',
      '\nall runs the first three on this machine. Without kafka.brokers the audit service reads the spool of the decision point;\nwithout database settings it keeps an embedded Postgres under home. The tripwire watches the write-ahead log of a\nPostgres server, and is started by itself.\n',
    )
    .action(async (service: string, options: { readonly config?: string }) => {
      const roles = service === 'all' ? (['pdp', 'audit'] as const) : isRole(service) ? [service] : undefined;
      if (roles === undefined)
        throw new AppError('usage', `unknown service ${service}: pdp, audit, signer, tripwire or all`);
      const loaded = loadSettings({ file: options.config, services: roles });
      if (isRole(service)) return serveOne(service, loaded);
      const isOwnDatabase = isEmbedded(loaded.settings);
      if (!isOwnDatabase)
        process.stderr.write(
          'edict: the settings name a database; on several machines run `serve pdp` and `serve audit` there\n',
        );
      // A signer beside the database that it watches proves little, but more than none.
      await serveAll(loaded, loaded.file, isOwnDatabase || loaded.settings.database.signer_url_file !== undefined);
    });
