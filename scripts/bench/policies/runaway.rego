# Policies that would not end in time: one entrypoint for each kind of work.
package bench.runaway

loops := count([1 |
	some a in input.numbers
	some b in input.numbers
	some c in input.numbers
	(a + b) + c == -1
])

sets := count({[a, b, c] |
	some a in input.numbers
	some b in input.numbers
	some c in input.numbers
})

walks := count([1 |
	some a in input.numbers
	some b in input.numbers
	walk(input, [path, value])
	value == [a, b]
])

texts := count([1 |
	some a in input.numbers
	some b in input.numbers
	contains(concat("-", [input.text, input.text]), concat("", [format_int(a * b, 2), "x"]))
])

patterns := count([1 |
	some a in input.numbers
	some b in input.numbers
	regex.match(sprintf("^(%d|%d)+[a-z]{1,%d}$", [a, b, (a % 9) + 2]), input.text)
])

pattern := count([1 |
	some a in input.numbers
	some b in input.numbers
	regex.match("(a|ab|abc|abcd|b|bc)+(x|y|z)+$", input.text)
])

replaces := count([1 |
	some a in input.numbers
	some b in input.numbers
	regex.replace(input.text, sprintf("(a|b%d)", [(a * 200) + b]), "x") == ""
])

prints := count([1 |
	some a in input.numbers
	some b in input.numbers
	sprintf("%s %d %v", [input.text, a, b]) == ""
])

digests := count([1 |
	some a in input.numbers
	some b in input.numbers
	crypto.sha256(input.text) == sprintf("%d%d", [a, b])
])

documents := count([1 |
	some a in input.numbers
	some b in input.numbers
	json.unmarshal(input.json) == [a, b]
])

documents_out := count([1 |
	some a in input.numbers
	some b in input.numbers
	json.marshal(input.members) == sprintf("%d%d", [a, b])
])

yamls := count([1 |
	some a in input.numbers
	some b in input.numbers
	yaml.unmarshal(input.lines) == [a, b]
])

tokens := count([1 |
	some a in input.numbers
	some b in input.numbers
	io.jwt.decode_verify(input.token, {"cert": input.key, "iss": sprintf("%d%d", [a, b])})[0]
])

globs := count([1 |
	some a in input.numbers
	some b in input.numbers
	glob.match(sprintf("{a,b,%d}*%d*{c,d}?x", [a, b]), [], input.text)
])

unions := count([1 |
	some a in input.numbers
	some b in input.numbers
	object.union(input.members, {"a": a, "b": b}) == {}
])

concats := count([1 |
	some a in input.numbers
	some b in input.numbers
	t2 := concat("", [input.text, input.text, input.text, input.text])
	t3 := concat("", [t2, t2, t2, t2, t2, t2])
	t4 := concat("", [t3, t3, t3, t3, t3, t3])
	count(t4) == a * b
])

ranges := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(numbers.range(1, (a * 1000) + b)) == 0
])

memory := count([x |
	some a in input.numbers
	some b in input.numbers
	x := concat("", [input.text, input.text, input.text, input.text])
])

splits := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(split(input.text, "a")) == (a * b) + 1
])

f0(x) := x + 1
f1(x) := f0(x) + f0(x + 1)
f2(x) := f1(x) + f1(x + 1)
f3(x) := f2(x) + f2(x + 1)
f4(x) := f3(x) + f3(x + 1)
f5(x) := f4(x) + f4(x + 1)
f6(x) := f5(x) + f5(x + 1)
f7(x) := f6(x) + f6(x + 1)
f8(x) := f7(x) + f7(x + 1)
f9(x) := f8(x) + f8(x + 1)
f10(x) := f9(x) + f9(x + 1)
f11(x) := f10(x) + f10(x + 1)
f12(x) := f11(x) + f11(x + 1)
f13(x) := f12(x) + f12(x + 1)
f14(x) := f13(x) + f13(x + 1)
f15(x) := f14(x) + f14(x + 1)
f16(x) := f15(x) + f15(x + 1)
f17(x) := f16(x) + f16(x + 1)
f18(x) := f17(x) + f17(x + 1)
f19(x) := f18(x) + f18(x + 1)
f20(x) := f19(x) + f19(x + 1)

calls := f20(input.numbers[1])

powers := x if {
	x0 := 999999999999999999
	x1 := x0 * x0
	x2 := x1 * x1
	x3 := x2 * x2
	x4 := x3 * x3
	x5 := x4 * x4
	x6 := x5 * x5
	x7 := x6 * x6
	x8 := x7 * x7
	x9 := x8 * x8
	x10 := x9 * x9
	x11 := x10 * x10
	x := x11 * x11
}

sorts := count([1 |
	some a in input.numbers
	some b in input.numbers
	sort(array.concat(input.numbers, [a, b])) == []
])

zones := count([1 |
	some a in input.numbers
	some b in input.numbers
	time.clock([(a * 1000000000000) + b, "Europe/Berlin"])[0] == -1
])

schemas := count([1 |
	some a in input.numbers
	some b in input.numbers
	json.match_schema(input.members, {"type": "object", "properties": {sprintf("%d%d", [a, b]): {"type": "string"}}})[0] == false
])

uuids := count([1 |
	some a in input.numbers
	some b in input.numbers
	uuid.rfc4122(sprintf("%d%d", [a, b])) == ""
])

widths := count([1 |
	some a in input.numbers
	some b in input.numbers
	sprintf("%999999d", [(a * 200) + b]) == ""
])

hmacs := count([1 |
	some a in input.numbers
	some b in input.numbers
	crypto.hmac.sha512(input.text, sprintf("%d%d", [a, b])) == ""
])

repeats := count([1 |
	some a in input.numbers
	some b in input.numbers
	regex.replace(input.text, sprintf("([a-h]{200}|[a-h]{%d}){2}%dx", [a + 100, b]), "x") == ""
])

finds := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(regex.find_n("[a-h]", input.text, -1)) == (a * b) + 1
])

# Each match is found by a look to the end of the text, as by `x*y|x`.
rescans := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(regex.split(sprintf("[a-h]*y%d|[a-h]", [(a * 200) + b]), input.text)) == 1
])

queries := count([1 |
	some a in input.numbers
	some b in input.numbers
	graphql.is_valid("query { a }", sprintf("type Query { a: String b%d: Int c%d: [Int] }", [a, b])) == false
])

key_sets := count([1 |
	some a in input.numbers
	some b in input.numbers
	io.jwt.verify_rs256(input.token, input.key_set) == a == b
])

signatures := count([1 |
	some a in input.numbers
	some b in input.numbers
	io.jwt.encode_sign({"alg": "RS256"}, {"a": a, "b": b}, input.private_key) == ""
])

certificates := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(crypto.parse_private_keys(input.private_pem)) == (a * b) + 2
])

patches := count([1 |
	some a in input.numbers
	some b in input.numbers
	json.patch({"a": input.members}, [
		{"op": "copy", "from": "/a", "path": "/a/x"},
		{"op": "copy", "from": "/a", "path": "/a/y"},
		{"op": "copy", "from": "/a", "path": "/a/z"},
		{"op": "copy", "from": "/a", "path": "/a/u"},
		{"op": "copy", "from": "/a", "path": "/a/v"},
		{"op": "copy", "from": "/a", "path": "/a/w"},
	]) == {"a": a, "b": b}
])

templates := count([1 |
	some a in input.numbers
	some b in input.numbers
	strings.render_template("{{range .n}}{{range $.n}}{{range $.n}}x{{end}}{{end}}{{end}}", {"n": input.numbers, "a": a, "b": b}) == ""
])

paths := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(graph.reachable_paths(input.graph, {"0"})) == a * b
])

networks := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(net.cidr_expand(sprintf("10.%d.0.0/%d", [a, 16 + (b % 8)]))) == 1
])

steps := count([1 |
	some a in input.numbers
	some b in input.numbers
	count(numbers.range_step(a, 100000, b + 1)) == 1
])

times := count([1 |
	some a in input.numbers
	some b in input.numbers
	time.format([(a * 1000000000000) + b, "Europe/Berlin", input.text]) == ""
])

urls := count([1 |
	some a in input.numbers
	some b in input.numbers
	uri.parse(concat("", ["https://example.com/", input.text])).host == sprintf("%d%d", [a, b])
])

hexes := count([1 |
	some a in input.numbers
	some b in input.numbers
	hex.encode(input.text) == sprintf("%d%d", [a, b])
])
