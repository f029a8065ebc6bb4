package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// compiledCase is what `cases` writes. Exactly one of the expectations is there.
type compiledCase struct {
	Set   string `json:"set"`
	Index int    `json:"index"`
	// Area is the folder of the case, or of an asset its file.
	Area         string            `json:"area"`
	Note         string            `json:"note"`
	Wasm         []byte            `json:"wasm,omitempty"`
	CompileError string            `json:"compileError,omitempty"`
	Data         string            `json:"data"`
	Input        *string           `json:"input,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	WantDefined  *bool             `json:"wantDefined,omitempty"`
	WantResult   *string           `json:"wantResult,omitempty"`
	WantError    *string           `json:"wantError,omitempty"`
	StrictError  bool              `json:"strictError,omitempty"`
	SortBindings bool              `json:"sortBindings,omitempty"`
	// Topdown is the result set of OPA's interpreter; TopdownError its error.
	Topdown      *string `json:"topdown,omitempty"`
	TopdownError *string `json:"topdownError,omitempty"`
}

type job struct {
	set   string
	index int
	area  string
	test  cases.TestCase
}

func writeCases(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cases", flag.ContinueOnError)
	sets := flags.String("sets", "v0,v1,assets", "which sets, by commas")
	area := flags.String("area", "", "only this folder")
	limit := flags.Int("limit", 0, "at most so many cases; 0: all")
	workers := flags.Int("workers", 2, "how many compile at the same time")
	folder := flags.String("opa", "", "the folder of OPA's source, which holds the cases")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *folder == "" {
		return errors.New("-opa is needed")
	}
	jobs, err := loadCases(*folder, strings.Split(*sets, ","), *area, *limit)
	if err != nil {
		return err
	}
	return compileAll(ctx, jobs, *workers, out)
}

func loadCases(folder string, sets []string, area string, limit int) ([]job, error) {
	folders := map[string]string{
		"v0":     filepath.Join(folder, "v1", "test", "cases", "testdata", "v0"),
		"v1":     filepath.Join(folder, "v1", "test", "cases", "testdata", "v1"),
		"assets": filepath.Join(folder, "v1", "test", "wasm", "assets"),
	}
	var jobs []job
	for _, set := range sets {
		root, ok := folders[set]
		if !ok {
			return nil, fmt.Errorf("no set %q", set)
		}
		loaded, err := loadYaml(root)
		if err != nil {
			return nil, err
		}
		for index, test := range loaded {
			file, err := filepath.Rel(root, test.Filename)
			if err != nil {
				return nil, err
			}
			within := filepath.Dir(file)
			if set == "assets" {
				within = strings.TrimSuffix(file, ".yaml")
			}
			if area != "" && within != area {
				continue
			}
			jobs = append(jobs, job{set: set, index: index, area: within, test: test})
		}
	}
	if limit > 0 && len(jobs) > limit {
		jobs = jobs[:limit]
	}
	return jobs, nil
}

// loadYaml reads file after file: the assets' folder holds a script too.
func loadYaml(root string) ([]cases.TestCase, error) {
	var loaded []cases.TestCase
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		set, err := cases.Load(path)
		loaded = append(loaded, set.Cases...)
		return err
	})
	return loaded, err
}

// compileAll compiles side by side and writes in order; only so many finished cases wait as there are workers.
func compileAll(ctx context.Context, jobs []job, workers int, out io.Writer) error {
	type slot chan []byte
	queue := make(chan slot, max(workers, 1))
	go func() {
		running := make(chan struct{}, max(workers, 1))
		for _, work := range jobs {
			result := make(slot, 1)
			queue <- result
			running <- struct{}{}
			go func() {
				result <- lineOf(ctx, work)
				<-running
			}()
		}
		close(queue)
	}()
	buffered := bufio.NewWriterSize(out, 1<<20)
	for result := range queue {
		if _, err := buffered.Write(<-result); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

func lineOf(ctx context.Context, work job) []byte {
	made, err := compileCase(ctx, work)
	if err != nil {
		made.CompileError = err.Error()
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(made); err != nil {
		panic(err)
	}
	return line.Bytes()
}

func compileCase(ctx context.Context, work job) (compiledCase, error) {
	test := work.test
	made := compiledCase{
		Set:          work.set,
		Index:        work.index,
		Area:         work.area,
		Note:         test.Note,
		Data:         "{}",
		Env:          test.Env,
		WantDefined:  test.WantDefined,
		StrictError:  test.StrictError,
		SortBindings: test.SortBindings,
	}
	err := recovered(func() error { return fill(ctx, work, &made) })
	return made, err
}

func fill(ctx context.Context, work job, made *compiledCase) error {
	test := work.test
	if test.WantResult != nil {
		text, err := wantedText(*test.WantResult)
		if err != nil {
			return err
		}
		made.WantResult = &text
	} else if test.WantErrorCode != nil {
		made.WantError = test.WantErrorCode
	} else {
		made.WantError = test.WantError
	}
	var data map[string]any
	if test.Data != nil {
		data = *test.Data
		text, err := jsonOf(data)
		if err != nil {
			return err
		}
		made.Data = text
	}
	input, err := inputOf(test)
	if err != nil {
		return err
	}
	if input != nil {
		text := textOf(input)
		made.Input = &text
	}
	options := caseOptions(work)
	compiled, err := rego.New(options...).Compile(ctx)
	if err != nil {
		return err
	}
	made.Wasm = compiled.Bytes
	interpret(ctx, options, data, input, made)
	return nil
}

// wantedText is a set of rows, as text: their order does not count.
func wantedText(rows []map[string]any) (string, error) {
	wanted := ast.NewSet()
	for _, row := range rows {
		value, err := ast.InterfaceToValue(row)
		if err != nil {
			return "", err
		}
		wanted.Add(ast.NewTerm(value))
	}
	return textOf(wanted), nil
}

func inputOf(test cases.TestCase) (ast.Value, error) {
	if test.InputTerm != nil {
		term, err := ast.ParseTerm(*test.InputTerm)
		if err != nil {
			return nil, err
		}
		return term.Value, nil
	}
	if test.Input == nil {
		return nil, nil
	}
	return ast.InterfaceToValue(*test.Input)
}

func caseOptions(work job) []func(*rego.Rego) {
	test := work.test
	options := []func(*rego.Rego){rego.Query(test.Query)}
	// The assets were written for the default version, and their errors name these files.
	file := "module%d.rego"
	if work.set == "assets" {
		options = append(options, assetFunctions()...)
	} else {
		file = "module-%d.rego"
		version := ast.RegoV1
		if work.set == "v0" {
			version = ast.RegoV0
		}
		options = append(options,
			rego.SetRegoVersion(version),
			rego.Capabilities(ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(test.ExperimentalKeywords))),
		)
	}
	for index, module := range test.Modules {
		options = append(options, rego.Module(fmt.Sprintf(file, index), module))
	}
	return options
}

// assetFunctions are the three built-ins that the runner of the assets supplies.
func assetFunctions() []func(*rego.Rego) {
	number := types.Args(types.N)
	return []func(*rego.Rego){
		rego.Function1(
			&rego.Function{Name: "custom_builtin_test", Decl: types.NewFunction(number, types.N)},
			func(_ rego.BuiltinContext, term *ast.Term) (*ast.Term, error) {
				given, ok := term.Value.(ast.Number)
				if !ok {
					return nil, errors.New("no number")
				}
				value, _ := given.Int()
				return ast.IntNumberTerm(value + 1), nil
			},
		),
		rego.FunctionDyn(
			&rego.Function{Name: "custom_builtin_test_impure", Decl: types.NewFunction(nil, types.N)},
			func(rego.BuiltinContext, []*ast.Term) (*ast.Term, error) { return ast.StringTerm("foo"), nil },
		),
		rego.FunctionDyn(
			&rego.Function{Name: "custom_builtin_test_memoization", Decl: types.NewFunction(nil, types.N)},
			func(rego.BuiltinContext, []*ast.Term) (*ast.Term, error) { return ast.IntNumberTerm(100), nil },
		),
	}
}

func interpret(
	ctx context.Context, options []func(*rego.Rego), data map[string]any, input ast.Value, made *compiledCase,
) {
	failed := func(err error) {
		var fault *topdown.Error
		_, message := errorText(err)
		if errors.As(err, &fault) {
			message = fault.Code + ": " + message
		}
		made.TopdownError = &message
	}
	// Some cases have rules and data of the same name, which OPA refuses when the data are there before the rules.
	store := storeOf(map[string]any{})
	query, err := rego.New(append(options, rego.Store(store), keepTerms())...).PrepareForEval(ctx)
	if err == nil && data != nil {
		err = storage.WriteOne(ctx, store, storage.AddOp, storage.Path{}, data)
	}
	if err != nil {
		failed(err)
		return
	}
	var given []rego.EvalOption
	if input != nil {
		given = append(given, rego.EvalParsedInput(input))
	}
	text, err := evaluate(ctx, query, given...)
	if err != nil {
		failed(err)
		return
	}
	made.Topdown = &text
}
