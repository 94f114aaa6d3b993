package tsa_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tallywood/ca/tsa"
)

func BenchmarkToken(b *testing.B) {
	o := newAuthority(b)
	h := open(b, o)
	for mediaType, body := range map[string][]byte{
		query: derRequest(b, "artifact", nil), "application/json": jsonRequest(b, nil),
	} {
		b.Run(mediaType[len("application/"):], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if w := post(h, mediaType, body); w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}

func ExampleNew() {
	chain, signer, err := tsa.CreateChain("example.org", time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	handler, err := tsa.New(tsa.Options{Chain: chain, Signer: signer})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := httptest.NewRequest("POST", "/api/v1/timestamp",
		strings.NewReader(`{"artifactHash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","hashAlgorithm":"sha256"}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 application/timestamp-reply
}
