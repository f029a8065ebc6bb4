// Command oracle answers what OPA itself does, for the conformance run of Edict's policy engine.
//
//	oracle cases -opa folder [-sets v0,v1,assets] [-area folder] [-limit n] [-workers n]
//	    compiles OPA's conformance cases and writes one JSON object a line, in the order of the files
//	oracle probes
//	    reads one JSON object a line and answers each with one, in order
//	oracle keys
//	    writes fresh keys and certificates as one JSON object
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/types"
)

func main() {
	registerTestSleep()
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "cases":
		err = writeCases(context.Background(), os.Args[2:], os.Stdout)
	case "probes":
		err = answerProbes(context.Background(), os.Stdin, os.Stdout)
	case "keys":
		err = writeKeys(os.Stdout)
	default:
		err = fmt.Errorf("usage: oracle cases|probes|keys")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "oracle: %v\n", err)
		os.Exit(1)
	}
}

// Some cases call a built-in that only OPA's own test runner has.
func registerTestSleep() {
	rego.RegisterBuiltin1(&rego.Function{
		Name: "test.sleep",
		Decl: types.NewFunction(types.Args(types.S), types.NewNull()),
	}, func(_ rego.BuiltinContext, duration *ast.Term) (*ast.Term, error) {
		if text, ok := duration.Value.(ast.String); ok {
			if d, err := time.ParseDuration(string(text)); err == nil {
				time.Sleep(d)
			}
		}
		return ast.NullTerm(), nil
	})
}
