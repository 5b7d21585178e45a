package store

import (
	"context"
	"strconv"
)

// Find lists the ids of decisions and of episodes that begin with a text, at most limit of each.
func (s *Store) Find(ctx context.Context, prefix string, limit int) (decisions, episodes []string, err error) {
	prefix = clean(prefix)
	err = s.db.read(ctx, func(q reader) error {
		for table, list := range map[string]*[]string{"decisions": &decisions, "episodes": &episodes} {
			err := q.query(ctx, func(scan func(...any) error) error {
				var id string
				err := scan(&id)
				*list = append(*list, id)
				return err
			}, "SELECT id FROM "+table+" WHERE id >= $1 AND id < $2 ORDER BY id LIMIT "+strconv.Itoa(limit), prefix, prefix+"\U0010FFFF")
			if err != nil {
				return err
			}
		}
		return nil
	})
	return decisions, episodes, err
}
