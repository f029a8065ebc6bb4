import type { DecisionRequest } from '../../services/shared/contracts/decision.ts';
import { runsOf, type RecordedCall } from './recording.ts';
import { resourceOf, type Catalogue } from './resources.ts';

/** The one person whose authority all recorded runs use. */
export const REPLAY_SUBJECT = { type: 'user', id: 'emma.johnson' } as const;

export const agentOf = (suite: string): string => `${suite}-assistant`;

/** One call as it is asked: the suite is the tenant. */
export interface ReplayRequest {
  readonly suite: string;
  readonly run: number;
  readonly callIndex: number;
  readonly body: DecisionRequest;
}

/** The requests of one run, to be sent one after another: each names the tools that the run called before it. */
export type ReplaySession = readonly ReplayRequest[];

const NO_OBJECTS: Catalogue = new Map();

const sessionOf = (run: readonly RecordedCall[], catalogues: ReadonlyMap<string, Catalogue>): ReplaySession =>
  run.map((call, index) => ({
    suite: call.suite,
    run: call.run,
    callIndex: call.call_index,
    body: {
      subject: REPLAY_SUBJECT,
      agent: { type: 'agent', id: agentOf(call.suite), properties: { instance: String(call.run) } },
      action: { name: call.function },
      resource: resourceOf(call, catalogues.get(call.suite) ?? NO_OBJECTS),
      context: {
        purpose: call.user_task_id,
        session: `run-${call.run}`,
        args: call.args,
        arg_origin: call.prov,
        prior_tools: run.slice(0, index).map((earlier) => earlier.function),
      },
    },
  }));

/** Maps recorded calls to decision requests, one session a run. */
export const sessionsOf = (
  calls: readonly RecordedCall[],
  catalogues: ReadonlyMap<string, Catalogue>,
): readonly ReplaySession[] => runsOf(calls).map((run) => sessionOf(run, catalogues));
