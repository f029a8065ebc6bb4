import fc from 'fast-check';
import { BuiltinHalt } from '../../../../services/pdp/policy/engine/builtin.ts';
import { templateBuiltins } from '../../../../services/pdp/policy/engine/template.ts';
import { answerOf } from './call-builtin.ts';

const render = (template: string, values: string) =>
  answerOf(templateBuiltins, 'strings.render_template', [JSON.stringify(template), values]);

describe('strings.render_template', () => {
  const values =
    '{"a": "x", "n": 5, "z": 0, "u": null, "e": "", "l": [1, null, [2]], "m": {"k": "v", "j": 1.50}, "s": ["p", "q"]}';

  // What OPA 1.22.2 answers.
  it.each([
    ['hello {{.a}} {{ .m.k }} {{$.n}}', 'hello x v 5'],
    ['{{.l}} {{.m}} {{.u}} {{.missing.x}}', '[1 <nil> [2]] map[j:1.50 k:v] <undefined> <undefined>'],
    ['a {{- .a -}} b {{- /* comment */ -}} c', 'axbc'],
    ['{{if .e}}y{{else if .z}}z{{else}}n{{end}}', 'z'],
    ['{{range $i, $x := .s}}{{if $i}},{{end}}{{$x}}{{end}}', 'p,q'],
    ['{{range $k, $v := .m}}{{$k}}={{$v}} {{end}}', 'j=1.50 k=v '],
    ['{{range .missing}}x{{else}}none{{end}}', 'none'],
    ['{{range .s}}{{if eq . "q"}}{{break}}{{end}}{{.}}{{end}}', 'p'],
    ['{{with .m}}{{.k}}{{$.a}}{{end}}', 'vx'],
    ['{{$x := "o"}}{{if .a}}{{$x = "i"}}{{end}}{{$x}}', 'i'],
    ['{{len .s}} {{index .s 1}} {{index .m "k"}} {{slice .s 1}}', '2 q v [q]'],
    ['{{and .e .a}}{{or .e .a}}{{not .e}}', 'xtrue'],
    ['{{eq .n "5"}} {{lt .a "y"}} {{ge 1 2}}', 'true true false'],
    ['{{print 1 2 "a"}} {{printf "%05.1f|%q" 2.25 .a}}', '1 2a 002.2|"x"'],
    ['{{"<a>" | html}} {{urlquery "a b"}} {{(.m).k | printf "%s-%s" "p"}}', '&lt;a&gt; a+b p-v'],
    ['{{"}}"}}', '}}'],
  ])('renders %j', (template, expected) => {
    expect(render(template, values)).toBe(JSON.stringify(expected));
  });

  it.each([
    '{{',
    '{{}}',
    '{{.a',
    '{{if .a}}',
    '{{end}}',
    '{{nofunc}}',
    '{{$x}}',
    '{{.a.x}}',
    '{{eq .n 5}}',
    '{{break}}',
    '{{index .s 9}}',
  ])('has no value for %j', (template) => {
    expect(render(template, values)).toBe('undefined');
  });

  it('takes JSON only', () => {
    expect(render('x', '{"a": {1}}')).toBe('undefined');
    expect(render('x', '{1: 2}')).toBe('undefined');
  });

  it('leaves text without actions alone', () => {
    fc.assert(
      fc.property(fc.string(), (template) => {
        fc.pre(!template.includes('{{'));
        expect(JSON.parse(render(template, '{}'))).toBe(template);
      }),
    );
  });

  it('fails the evaluation at a loop without end', () => {
    expect(() => render('{{range 9999999999}}x{{end}}', '{}')).toThrow(BuiltinHalt);
    expect(() => render('{{range 9999999999}}{{end}}', '{}')).toThrow(BuiltinHalt);
  });
});
