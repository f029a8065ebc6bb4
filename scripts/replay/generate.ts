import type { Environments, RecordedCall, RecordedTask, RecordedTool, Recording } from './recording.ts';

/** A small linear congruential generator (Numerical Recipes): the same numbers for the same seed, everywhere. */
const createRandom = (seed: number): ((below: number) => number) => {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
};

interface Suite {
  readonly name: string;
  readonly environment: Readonly<Record<string, unknown>>;
  /** Name, whether it changes nothing, and the argument that names an object with the objects to choose from. */
  readonly tools: readonly (readonly [
    name: string,
    readOnly: boolean,
    argument?: string,
    objects?: readonly string[],
  ])[];
  /** What the task of each purpose needs to change. */
  readonly tasks: readonly (readonly string[])[];
}

const SUITES: readonly Suite[] = [
  {
    name: 'library',
    environment: {
      filesystem: { files: { 'catalogue.txt': 'books', 'loans.txt': 'loans' } },
      inbox: { account_email: 'desk@library.example', initial_emails: [] },
    },
    tools: [
      ['read_file', true, 'file_path', ['catalogue.txt', 'loans.txt', 'missing.txt']],
      ['get_unread_emails', true],
      ['delete_file', false, 'file_path', ['catalogue.txt', 'loans.txt']],
      ['send_email', false],
    ],
    tasks: [[], ['send_email'], ['delete_file']],
  },
  {
    name: 'bakery',
    environment: { slack: { channels: ['orders', 'ovens'], users: ['Ada', 'Ben'] } },
    tools: [
      ['read_channel_messages', true, 'channel', ['orders', 'ovens', 'cellar']],
      ['send_channel_message', false, 'channel', ['orders', 'ovens']],
      ['send_direct_message', false, 'recipient', ['Ada', 'Ben', 'Eve']],
    ],
    tasks: [[], ['send_channel_message'], ['send_direct_message']],
  },
];

const taskName = (index: number): string => `user_task_${index}`;

/**
 * A made-up recording in the same form as a real one, about `calls` calls over two suites, the same for the same
 * arguments: it stands in where no recording is at hand.
 */
export const generateRecording = (calls: number, seed = 7180): Recording => {
  const random = createRandom(seed);
  const made: RecordedCall[] = [];
  for (let run = 0; made.length < calls; run += 1) {
    const suite = SUITES[run % SUITES.length] as Suite;
    const task = random(suite.tasks.length);
    const length = Math.min(1 + random(6), calls - made.length);
    for (let index = 0; index < length; index += 1) {
      const [name, , argument, objects = []] = suite.tools[random(suite.tools.length)] ?? ['nothing'];
      const object = objects[random(Math.max(1, objects.length))];
      const args = argument === undefined || object === undefined ? {} : { [argument]: object };
      made.push({
        run,
        suite: suite.name,
        user_task_id: taskName(task),
        call_index: index,
        function: name,
        args,
        prov: Object.fromEntries(Object.keys(args).map((each) => [each, random(2) === 0 ? 'u' : 'm'])),
      });
    }
  }
  const tools: readonly RecordedTool[] = SUITES.flatMap((suite) =>
    suite.tools.map(([name, readOnly]) => ({ suite: suite.name, name, no_side_effect_per_camel: readOnly })),
  );
  const tasks: readonly RecordedTask[] = SUITES.flatMap((suite) =>
    suite.tasks.map((needed, index) => ({
      suite: suite.name,
      task_id: taskName(index),
      ground_truth: needed.map((name) => ({ function: name })),
    })),
  );
  const environments: Environments = Object.fromEntries(SUITES.map(({ name, environment }) => [name, { environment }]));
  return { calls: made, tools, tasks, environments };
};
