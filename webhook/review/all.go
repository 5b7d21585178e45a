package review

import "github.com/evictgate/evictgate/webhook/review/store"

// pageOfAll is how many are read at a time when all are.
const pageOfAll = 1000

// All reads a list to its end, page by page, from behind after on.
func All[T any](after string, read func(store.Page) (list []T, next string, err error)) ([]T, error) {
	var all []T
	for page := (store.Page{Limit: pageOfAll, After: after}); ; {
		list, next, err := read(page)
		all = append(all, list...)
		if err != nil || next == "" {
			return all, err
		}
		page.After = next
	}
}
