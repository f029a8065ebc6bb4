import { BuiltinError } from './builtin.ts';

/** Part of a template of Go's `text/template`. */
export type TemplateNode =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly pipe: Pipe }
  | {
      readonly kind: 'if' | 'with' | 'range';
      readonly pipe: Pipe;
      readonly body: readonly TemplateNode[];
      readonly otherwise: readonly TemplateNode[] | undefined;
    }
  | { readonly kind: 'break' | 'continue' };

/** Commands, each given the result of the one before it as its last argument. */
export interface Pipe {
  readonly variables: readonly string[];
  readonly isAssignment: boolean;
  readonly commands: readonly (readonly Operand[])[];
}

export type Operand =
  | { readonly kind: 'dot' | 'nil' }
  | { readonly kind: 'variable' | 'function'; readonly name: string; readonly fields: readonly string[] }
  | { readonly kind: 'field'; readonly fields: readonly string[] }
  | { readonly kind: 'pipe'; readonly pipe: Pipe; readonly fields: readonly string[] }
  | { readonly kind: 'literal'; readonly value: string | boolean | bigint | number };

const fail = (why: string): never => {
  throw new BuiltinError(why);
};

const FUNCTIONS = new Set('and or not len index slice print printf println html urlquery eq ne lt le gt ge'.split(' '));

const TOKEN =
  /\s+|"(?:[^"\\\n]|\\[^\n])*"|`[^`]*`|:=|[=|(),]|\$[\p{L}\p{Nd}_]*|(?:\.[\p{L}_][\p{L}\p{Nd}_]*)|\.(?![\p{L}\p{Nd}_])|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[\p{L}_][\p{L}\p{Nd}_]*/uy;

const tokensOf = (action: string): readonly string[] => {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < action.length) {
    const [token] = TOKEN.exec(action) ?? fail('an unknown character in a template');
    tokens.push(/^\s/.test(token) ? ' ' : token);
  }
  return tokens;
};

const BLANKS = ' \t\r\n';

const trimStart = (value: string): string => {
  let start = 0;
  while (start < value.length && BLANKS.includes(value.charAt(start))) start += 1;
  return value.slice(start);
};

const trimEnd = (value: string): string => {
  let end = value.length;
  while (end > 0 && BLANKS.includes(value.charAt(end - 1))) end -= 1;
  return value.slice(0, end);
};

/** Text and actions by turns, text first; blanks are cut beside `{{-` and `-}}`. */
const partsOf = (template: string): readonly string[] => {
  const parts: string[] = [];
  let at = 0;
  let trimsStart = false;
  for (;;) {
    const open = template.indexOf('{{', at);
    let text = template.slice(at, open < 0 ? undefined : open);
    if (trimsStart) text = trimStart(text);
    if (open < 0) return [...parts, text];
    at = open + 2;
    if (/^-\s/.test(template.slice(at, at + 2))) {
      text = trimEnd(text);
      at += 1;
    }
    const comment = /^\s*\/\*/.exec(template.slice(at, at + 16));
    const [, body = '', trim = ''] = actionAt(template, at, comment !== null);
    // An empty action is an error, a comment is none.
    parts.push(text, comment === null ? body || ' ' : '');
    trimsStart = trim !== '';
    at += body.length + trim.length + 2;
  }
};

const COMMENT = /(\s*\/\*[^]*?\*\/\s*?)(\s-)?\}\}/y;
const ACTION = /((?:"(?:[^"\\\n]|\\[^\n])*"|`[^`]*`|[^"`}])*?)(\s-)?\}\}/y;

const actionAt = (template: string, at: number, isComment: boolean): RegExpExecArray => {
  const pattern = isComment ? COMMENT : ACTION;
  pattern.lastIndex = at;
  return pattern.exec(template) ?? fail('an action does not end');
};

const literalOf = (token: string): string | bigint | number => {
  if (token.startsWith('`')) return token.slice(1, -1);
  if (token.startsWith('"')) {
    try {
      return JSON.parse(token) as string;
    } catch {
      return fail('an unknown escape in a string');
    }
  }
  if (!/^[+-]?\d+$/.test(token)) return Number(token);
  const integer = BigInt(token.replace('+', ''));
  return BigInt.asIntN(64, integer) === integer ? integer : fail('an integer of more than 64 bits');
};

const MAX_NESTING = 100;

/** Reads one action's pipeline, which must take all its tokens. */
const pipeOf = (action: string, scope: Set<string>): Pipe => {
  const tokens = tokensOf(action.trim());
  let at = 0;
  const skip = (): void => {
    while (tokens[at] === ' ') at += 1;
  };
  const fields = (): readonly string[] => {
    const names: string[] = [];
    for (; /^\../u.test(tokens[at] ?? ''); at += 1) names.push((tokens[at] ?? '').slice(1));
    return names;
  };
  const operand = (depth: number): Operand => {
    const token = tokens[at] ?? fail('a value is missing');
    at += 1;
    if (token === '.') return { kind: 'dot' };
    if (token.startsWith('.') && !/^\.\d/.test(token)) {
      at -= 1;
      return { kind: 'field', fields: fields() };
    }
    if (token.startsWith('$')) {
      if (!scope.has(token)) fail('an unknown variable');
      return { kind: 'variable', name: token, fields: fields() };
    }
    if (token === '(') {
      const inner = pipe(depth + 1);
      if (tokens[at] !== ')') fail('a parenthesis is not closed');
      at += 1;
      return { kind: 'pipe', pipe: inner, fields: fields() };
    }
    if (token === 'true' || token === 'false') return { kind: 'literal', value: token === 'true' };
    if (token === 'nil') return { kind: 'nil' };
    if (/^["`\d.+-]/.test(token)) return { kind: 'literal', value: literalOf(token) };
    if (!FUNCTIONS.has(token)) fail('an unknown function');
    return { kind: 'function', name: token, fields: [] };
  };
  const pipe = (depth: number): Pipe => {
    if (depth > MAX_NESTING) fail('nested too deep');
    const { variables, isAssignment } = declaration();
    const commands: Operand[][] = [];
    do {
      const command: Operand[] = [];
      for (skip(); at < tokens.length && tokens[at] !== '|' && tokens[at] !== ')'; skip()) command.push(operand(depth));
      if (command.length === 0) fail('a command is missing');
      if (commands.length > 0 && command[0]?.kind !== 'function') fail('a function expected in a pipeline');
      commands.push(command);
    } while (tokens[at] === '|' && (at += 1) > 0);
    if (!isAssignment) for (const name of variables) scope.add(name);
    return { variables, isAssignment, commands };
  };
  const declaration = (): { readonly variables: readonly string[]; readonly isAssignment: boolean } => {
    skip();
    const head = tokens.slice(at, at + 8).filter((token) => token !== ' ');
    const count = head[1] === ',' && head[2]?.startsWith('$') === true ? 2 : 1;
    const sign = head[count === 2 ? 3 : 1];
    if (head[0]?.startsWith('$') !== true || (sign !== ':=' && sign !== '='))
      return { variables: [], isAssignment: false };
    while (tokens[at] !== sign) at += 1;
    at += 1;
    const variables = count === 2 ? [head[0], head[2] ?? ''] : [head[0]];
    if (sign === '=' && variables.some((name) => !scope.has(name))) fail('an unknown variable');
    return { variables, isAssignment: sign === '=' };
  };
  const result = pipe(0);
  skip();
  if (at < tokens.length) fail('more after a pipeline');
  return result;
};

/** Reads a template; throws `BuiltinError` on what is malformed, and on `define`, `template`, `block`. */
export const parseTemplate = (template: string): readonly TemplateNode[] => {
  const parts = partsOf(template);
  let at = 0;
  /** The nodes up to `end` or `else`, and what stood there. */
  const list = (
    outer: ReadonlySet<string>,
    inRange: boolean,
    depth: number,
  ): { readonly nodes: readonly TemplateNode[]; readonly stop: string } => {
    if (depth > MAX_NESTING) fail('nested too deep');
    const scope = new Set(outer);
    const nodes: TemplateNode[] = [];
    for (; at < parts.length; at += 1) {
      const part = parts[at] ?? '';
      if (at % 2 === 0) {
        if (part !== '') nodes.push({ kind: 'text', text: part });
        continue;
      }
      const word = /^\s*([a-z]+)(?![\p{L}\p{Nd}_])/u.exec(part)?.[1] ?? '';
      if (part.trim() === '') {
        if (part !== '') fail('an action is empty');
      } else if (word === 'if' || word === 'with' || word === 'range')
        nodes.push(block(word, part.trim().slice(word.length), scope, inRange, depth));
      else if (word === 'end' || word === 'else') return { nodes, stop: part.trim() };
      else if (word === 'break' || word === 'continue') {
        if (!inRange || part.trim() !== word) fail(`${word} outside of a range`);
        nodes.push({ kind: word });
      } else {
        const pipe = pipeOf(part, scope);
        if (pipe.variables.length === 2) fail('two variables outside of a range');
        nodes.push({ kind: 'print', pipe });
      }
    }
    return { nodes, stop: '' };
  };
  const block = (
    kind: 'if' | 'with' | 'range',
    action: string,
    outer: ReadonlySet<string>,
    inRange: boolean,
    depth: number,
  ): TemplateNode => {
    const scope = new Set(outer);
    const pipe = pipeOf(action, scope);
    if (pipe.variables.length === 2 && kind !== 'range') fail('two variables outside of a range');
    at += 1;
    const body = list(scope, inRange || kind === 'range', depth + 1);
    if (body.stop === 'end') return { kind, pipe, body: body.nodes, otherwise: undefined };
    const [, chained, rest = ''] = /^else\s+(if|with)\b([^]*)$/.exec(body.stop) ?? [];
    if (chained !== undefined && chained === kind)
      return { kind, pipe, body: body.nodes, otherwise: [block(kind, rest, scope, inRange, depth + 1)] };
    if (body.stop !== 'else') fail('an end is missing');
    at += 1;
    const otherwise = list(scope, inRange, depth + 1);
    if (otherwise.stop !== 'end') fail('an end is missing');
    return { kind, pipe, body: body.nodes, otherwise: otherwise.nodes };
  };
  const { nodes, stop } = list(new Set(['$']), false, 0);
  if (stop !== '') fail('an end without a beginning');
  return nodes;
};
