package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
)

// probeTimeout ends what OPA itself takes too long for.
const probeTimeout = 20 * time.Second

// probe is one question: the value of variable x after the query.
type probe struct {
	ID      json.RawMessage `json:"id"`
	Query   string          `json:"query"`
	Modules []string        `json:"modules"`
	// Input is Rego text, Data JSON.
	Input *string `json:"input"`
	Data  string  `json:"data"`
	// NowNs is the evaluation's clock.
	NowNs int64 `json:"nowNs,string"`
	// Wasm asks for the compiled module of the query.
	Wasm bool `json:"wasm"`
	// Skip asks for nothing else.
	Skip bool `json:"compileOnly"`
}

type answer struct {
	ID        json.RawMessage `json:"id"`
	Value     *string         `json:"value,omitempty"`
	Undefined bool            `json:"undefined,omitempty"`
	Error     string          `json:"error,omitempty"`
	// Stage is where the error came up: parse, compile or evaluate.
	Stage string `json:"stage,omitempty"`
	Wasm  []byte `json:"wasm,omitempty"`
}

func storeOf(data map[string]any) storage.Store {
	return inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false))
}

func answerProbes(ctx context.Context, in io.Reader, out io.Writer) error {
	reader := bufio.NewReaderSize(in, 1<<20)
	writer := bufio.NewWriterSize(out, 1<<20)
	prepared := map[string]rego.PreparedEvalQuery{}
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) > 1 {
			var asked probe
			if err := json.Unmarshal(line, &asked); err != nil {
				return fmt.Errorf("malformed probe: %w", err)
			}
			bytes, err := json.Marshal(answerProbe(ctx, asked, prepared))
			if err != nil {
				return err
			}
			if _, err := writer.Write(append(bytes, '\n')); err != nil {
				return err
			}
		}
		// Whoever asks may wait for this answer before the next question.
		if reader.Buffered() == 0 || err != nil {
			if err := writer.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func answerProbe(ctx context.Context, asked probe, prepared map[string]rego.PreparedEvalQuery) answer {
	told := answer{ID: asked.ID}
	fail := func(stage string, err error) answer {
		_, told.Error = errorText(err)
		told.Stage = stage
		return told
	}
	if asked.Wasm {
		err := recovered(func() error {
			compiled, err := rego.New(probeOptions(asked)...).Compile(ctx)
			if err == nil {
				told.Wasm = compiled.Bytes
			}
			return err
		})
		if err != nil {
			return fail("compile", err)
		}
	}
	if asked.Skip {
		return told
	}
	query, err := prepare(ctx, asked, prepared)
	if err != nil {
		return fail("compile", err)
	}
	options := []rego.EvalOption{rego.EvalTime(time.Unix(0, asked.NowNs).UTC())}
	if asked.Input != nil {
		var input *ast.Term
		err := recovered(func() (err error) {
			input, err = ast.ParseTerm(*asked.Input)
			return err
		})
		if err != nil {
			return fail("parse", err)
		}
		options = append(options, rego.EvalParsedInput(input.Value))
	}
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var results rego.ResultSet
	err = recovered(func() (err error) {
		results, err = query.Eval(limited, options...)
		return err
	})
	if err != nil {
		return fail("evaluate", err)
	}
	if len(results) == 0 {
		told.Undefined = true
		return told
	}
	value, ok := results[0].Bindings["x"].(ast.Value)
	if !ok {
		return fail("evaluate", errors.New("the query gives x no value"))
	}
	text := textOf(value)
	told.Value = &text
	return told
}

func probeOptions(asked probe) []func(*rego.Rego) {
	options := []func(*rego.Rego){rego.Query(asked.Query)}
	for index, module := range asked.Modules {
		options = append(options, rego.Module(fmt.Sprintf("module-%d.rego", index), module))
	}
	return options
}

// prepare keeps queries without modules: the same ones come with many inputs.
func prepare(
	ctx context.Context, asked probe, prepared map[string]rego.PreparedEvalQuery,
) (rego.PreparedEvalQuery, error) {
	key := asked.Query + "\x00" + asked.Data
	isKept := len(asked.Modules) == 0
	if query, ok := prepared[key]; ok && isKept {
		return query, nil
	}
	var query rego.PreparedEvalQuery
	err := recovered(func() error {
		data := map[string]any{}
		if asked.Data != "" {
			if err := util.NewJSONDecoder(strings.NewReader(asked.Data)).Decode(&data); err != nil {
				return err
			}
		}
		var err error
		options := append(probeOptions(asked), rego.Store(storeOf(data)), keepTerms())
		query, err = rego.New(options...).PrepareForEval(ctx)
		return err
	})
	if err == nil && isKept {
		prepared[key] = query
	}
	return query, err
}
