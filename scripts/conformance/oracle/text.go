package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// textOf prints a value as the text that policy modules read and print: JSON, and beside it sets and keys of any type.
// The printer of OPA itself quotes strings as Go does, with escapes that JSON has not.
func textOf(value ast.Value) string {
	var out strings.Builder
	write(&out, value)
	return out.String()
}

func write(out *strings.Builder, value ast.Value) {
	switch value := value.(type) {
	case ast.String:
		out.WriteString(quote(string(value)))
	case *ast.Array:
		out.WriteByte('[')
		for i := range value.Len() {
			if i > 0 {
				out.WriteByte(',')
			}
			write(out, value.Elem(i).Value)
		}
		out.WriteByte(']')
	case ast.Object:
		out.WriteByte('{')
		for i, key := range value.Keys() {
			if i > 0 {
				out.WriteByte(',')
			}
			write(out, key.Value)
			out.WriteByte(':')
			write(out, value.Get(key).Value)
		}
		out.WriteByte('}')
	case ast.Set:
		if value.Len() == 0 {
			out.WriteString("set()")
			return
		}
		out.WriteByte('{')
		for i, member := range value.Slice() {
			if i > 0 {
				out.WriteByte(',')
			}
			write(out, member.Value)
		}
		out.WriteByte('}')
	default:
		out.WriteString(value.String())
	}
}

// quote replaces bytes that are no UTF-8 with U+FFFD.
func quote(text string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func jsonOf(value any) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}
