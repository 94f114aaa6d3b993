package witness

import "runtime"

// turns is taken for the signatures that a request makes and checks, which are most of its work: as
// many at once as there are processors, whoever came first before the others. Without it all requests
// share the processors, and the signature that by chance takes four times as long (ML-DSA tries until
// one fits) waits four times as long for its share.
//
// Nothing that waits, for storage or for a key elsewhere, is done in a turn.
type turns chan struct{}

func newTurns() turns { return make(turns, min(runtime.NumCPU(), runtime.GOMAXPROCS(0))) }

// do calls f in a turn.
func (t turns) do(f func()) {
	t <- struct{}{}
	defer func() { <-t }()
	f()
}
