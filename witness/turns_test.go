package witness

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"tallywood/internal/bubble"
)

func TestTurnsAreTakenInOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := make(turns, 2)
		var mu sync.Mutex
		var order []int
		release := make(chan struct{})
		for i := range 8 {
			go turns.do(func() {
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				<-release
			})
			synctest.Wait() // so that it is known who came first
		}
		for n := 2; n < 8; n++ {
			mu.Lock()
			if len(order) != n {
				t.Errorf("%d in their turn, want %d", len(order), n)
			}
			mu.Unlock()
			release <- struct{}{}
			synctest.Wait()
		}
		release <- struct{}{}
		release <- struct{}{}
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7}; !slices.Equal(order, want) {
			t.Errorf("turns were taken in the order %v", order)
		}
	})
}
