package main

import (
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// keepFlags say how much a store keeps.
type keepFlags struct{ age, maxSize string }

func (f *keepFlags) add(flags *pflag.FlagSet, age string) {
	flags.StringVar(&f.age, "store-keep", age, "how long the store keeps records; 0 for ever")
	flags.StringVar(&f.maxSize, "store-max-size", "", "how large the store may grow, such as 500Mi; beyond it the oldest records go; 0 for no bound; default: "+
		"2Gi for SQLite, 128Mi for SQLite in memory, no bound for PostgreSQL")
}

// retention is what --store-keep and --store-max-size say of a store.
func (f *keepFlags) retention(url string) (store.Retention, error) {
	var r store.Retention
	var err error
	if r.Age, err = review.ReadAge(f.age); err != nil {
		return r, fmt.Errorf("--store-keep is %q; expected an age such as 720h or 30d", f.age)
	}
	if f.maxSize == "" {
		r.Size = store.DefaultSize(url)
		return r, nil
	}
	size, err := resource.ParseQuantity(f.maxSize)
	if err != nil || size.Sign() < 0 {
		return r, fmt.Errorf("--store-max-size is %q; expected a size such as 500Mi or 2Gi", f.maxSize)
	}
	r.Size = size.Value()
	return r, nil
}
