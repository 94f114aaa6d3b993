package bench

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"tallywood/internal/mint"
	"tallywood/log/entry"
)

// usualIdentities are those that the usual plan is about. The issuers of an identity are what makes
// an entry of it an alert or a sight.
const usualIdentities = `
identities:
  - {name: mail, email: planted@watched.example, expect: {issuers: ["https://accounts.example.com"]}, rules: {id.seen: {}}}
  - {name: tool, github: watched-org/tool, expect: {issuers: ["https://token.actions.githubusercontent.com"]}, rules: {id.seen: {}}}
  - {name: key, key: "%x"}
entries:
`

// usualEntries are one of each kind that a monitor must not overlook, and some that it must.
var usualEntries = []string{
	`email: planted@watched.example, issuer: "https://accounts.example.com"`,
	`email: planted@watched.example, issuer: "https://accounts.evil.example"`,
	`email: planted@watched.example`,
	`email: PLANTED@Watched.example, issuer: "https://accounts.example.com"`,
	`email: planted@watched.example, issuer: "https://accounts.example.com", ca: evil`,
	`email: "planted@watched.example\0.evil.example", issuer: "https://accounts.example.com"`,
	`uri: "https://watched.example", email: planted@watched.example, issuer: "https://accounts.example.com"`,
	`email: planted@watched.example, issuer: "https://accounts.example.com", forged: true`,
	`email: planted@watched.example, issuer: "https://accounts.example.com", cut: 1100`,
	`github: {repository: watched-org/tool, ref: refs/tags/v1.2.3}`,
	`github: {repository: watched-org/tool, workflow: .github/workflows/evil.yml, ref: refs/heads/x}`,
	`github: {repository: other-org/caller, signer: "https://github.com/watched-org/tool/.github/workflows/shared.yml@refs/heads/main"}`,
	`github: {repository: watched-org/tool, issuer: "https://token.actions.evil.example"}`,
	`key: planted, bare: true`,
	`key: planted, email: somebody@else.example, issuer: "https://accounts.example.com"`,
	`email: planted@watched.example, issuer: "https://accounts.example.com", sct: none`,
	`email: not-planted@watched.example, issuer: "https://accounts.example.com", quiet: true`,
	`email: planted@watched.example.evil.example, issuer: "https://accounts.example.com", quiet: true`,
	`github: {repository: watched-org/tools}, quiet: true`,
	`github: {repository: watched-org2/tool}, quiet: true`,
}

// usualPlan plants each of the usual entries, where a monitor may easily overlook it, and two in each
// ten thousand entries more.
func usualPlan(w *mint.World, size int64) (*mint.Plan, error) {
	key, err := w.KeyHash(entry.ECDSAP256, "planted")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, usualIdentities, key)
	at := map[int64]bool{}
	plant := func(index int64, what string) {
		if index >= 0 && index < size && !at[index] {
			at[index] = true
			fmt.Fprintf(&b, "  - {index: %d, %s}\n", index, what)
		}
	}
	r := rand.New(rand.NewPCG(uint64(size), 0))
	edges := []int64{0, size - 1, 255, 256, size / 256 * 256, size/256*256 - 1, 65535, 65536}
	for i, what := range usualEntries {
		if i < len(edges) {
			plant(edges[i], what)
			continue
		}
		plant(r.Int64N(size), what)
	}
	for range size / 5000 {
		plant(r.Int64N(size), usualEntries[r.IntN(len(usualEntries))])
	}
	p, err := mint.ReadPlan([]byte(b.String()))
	return &p, err
}
