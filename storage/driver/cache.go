package driver

import (
	"container/list"
	"sync"
)

// cache keeps the values used last.
type cache[K comparable, V any] struct {
	limit int

	mu    sync.Mutex
	order list.List // of pair[K, V], the one used last in front
	byKey map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, byKey: make(map[K]*list.Element)}
}

func (c *cache[K, V]) get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[k]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(e)
	return e.Value.(pair[K, V]).value, true
}

func (c *cache[K, V]) add(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		c.order.MoveToFront(e)
		return
	}
	c.byKey[k] = c.order.PushFront(pair[K, V]{k, v})
	if c.order.Len() > c.limit {
		delete(c.byKey, c.order.Remove(c.order.Back()).(pair[K, V]).key)
	}
}
