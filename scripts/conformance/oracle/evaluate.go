package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// keepTerms makes result sets hold the terms themselves: OPA turns sets into arrays otherwise.
func keepTerms() func(*rego.Rego) {
	return rego.GenerateJSON(func(term *ast.Term, _ *rego.EvalContext) (any, error) { return term.Value, nil })
}

// recovered runs work and turns a panic into an error: some built-ins of OPA panic on some arguments.
func recovered(work func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	return work()
}

// evaluate gives the result set as text, an array of objects of the query's variables.
func evaluate(ctx context.Context, query rego.PreparedEvalQuery, options ...rego.EvalOption) (text string, err error) {
	err = recovered(func() error {
		results, err := query.Eval(ctx, options...)
		if err != nil {
			return err
		}
		text = resultSetText(results)
		return nil
	})
	return text, err
}

func resultSetText(results rego.ResultSet) string {
	rows := make([]string, 0, len(results))
	for _, result := range results {
		if !holds(result) {
			continue
		}
		row := ast.NewObject()
		for name, value := range result.Bindings {
			if value, ok := value.(ast.Value); ok {
				row.Insert(ast.StringTerm(name), ast.NewTerm(value))
			}
		}
		rows = append(rows, textOf(row))
	}
	return "[" + strings.Join(rows, ",") + "]"
}

// holds tells whether every expression is true; the interpreter lists rows with a false one, a compiled query does not.
func holds(result rego.Result) bool {
	for _, expression := range result.Expressions {
		if value, ok := expression.Value.(ast.Boolean); ok && !bool(value) {
			return false
		}
	}
	return true
}

// errorText is one line; `code` as in OPA's own errors, "" for others.
func errorText(err error) (code string, message string) {
	var list ast.Errors
	if errors.As(err, &list) && len(list) > 0 {
		return list[0].Code, list[0].Error()
	}
	return "", strings.Join(strings.Fields(err.Error()), " ")
}
