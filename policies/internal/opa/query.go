package opa

import (
	"context"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Query prepares a query over the modules of a compiler, as if it stood in a context.
func Query(modules *ast.Compiler, body ast.Body, within *ast.QueryContext) (*topdown.Query, error) {
	store, transaction := noData()
	compiler := modules.QueryCompiler().WithContext(within)
	compiled, err := compiler.Compile(body)
	if err != nil {
		return nil, err
	}
	return topdown.NewQuery(compiled).WithQueryCompiler(compiler).WithCompiler(modules).
		WithStore(store).WithTransaction(transaction).
		WithMetrics(metrics.NoOp()).WithStrictBuiltinErrors(true), nil
}

// noData is the store of every query, with a transaction that only reads.
var noData = sync.OnceValues(func() (storage.Store, storage.Transaction) {
	store := inmem.NewFromObjectWithOpts(map[string]any{}, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	transaction, err := store.NewTransaction(context.Background())
	if err != nil {
		panic(err) // only a transaction that writes waits or fails
	}
	return store, transaction
})
