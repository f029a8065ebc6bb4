import type { RecordedTask, RecordedTool, Recording } from './recording.ts';
import { agentOf, REPLAY_SUBJECT } from './requests.ts';
import { cataloguesOf, type Catalogue } from './resources.ts';

const PARTY = { status: 'active', clearance: 'internal', region: 'any', window: 'always' } as const;

const described = (suite: string) => ({ domain: suite, sensitivity: 'internal', regions: ['any'] });

/** Actions and tools under one name each: a tool is called by its own name. */
const grants = (suite: string, functions: readonly string[]) => ({
  entitlements: { [suite]: [...functions] },
  tools: [...functions],
});

const resourcesOf = (suite: string, catalogue: Catalogue, tools: readonly RecordedTool[]) =>
  Object.fromEntries([
    ...[...catalogue].map(([type, ids]) => [type, Object.fromEntries([...ids].map((id) => [id, described(suite)]))]),
    ['tool', Object.fromEntries(tools.map(({ name }) => [name, described(suite)]))],
  ]);

/**
 * **The rule of the replay.** User and agent may use every tool of their suite on every object of its world. A purpose
 * permits the tools without side effects, and those with side effects that the task's own solution uses.
 */
const purposeOf = (suite: string, task: RecordedTask, tools: readonly RecordedTool[]) => {
  const needed = new Set(task.ground_truth.map((step) => step.function));
  const permitted = tools.filter((tool) => tool.no_side_effect_per_camel || needed.has(tool.name));
  return {
    detail: 'rows',
    ...grants(
      suite,
      permitted.map(({ name }) => name),
    ),
  };
};

/** The bundle's data document for each suite, by the rule above; everything else is the policy library's. */
export const directoriesOf = (
  recording: Pick<Recording, 'tools' | 'tasks' | 'environments'>,
): ReadonlyMap<string, Readonly<Record<string, unknown>>> => {
  const catalogues = cataloguesOf(recording.environments);
  const suites = [...new Set(recording.tools.map(({ suite }) => suite))].sort();
  return new Map(
    suites.map((suite) => {
      const tools = recording.tools.filter((tool) => tool.suite === suite);
      const tasks = recording.tasks.filter((task) => task.suite === suite);
      const party = {
        ...PARTY,
        ...grants(
          suite,
          tools.map(({ name }) => name),
        ),
      };
      const directory = {
        subjects: { [REPLAY_SUBJECT.type]: { [REPLAY_SUBJECT.id]: party } },
        agents: { agent: { [agentOf(suite)]: party } },
        resources: resourcesOf(suite, catalogues.get(suite) ?? new Map(), tools),
        purposes: Object.fromEntries(tasks.map((task) => [task.task_id, purposeOf(suite, task, tools)])),
        prohibitions: [],
        windows: { always: { always: true } },
        reuse_s: {},
      };
      return [suite, { directory }];
    }),
  );
};
