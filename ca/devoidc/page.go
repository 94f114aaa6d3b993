package devoidc

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"

	"tallywood/internal/httpx"
)

// pageHTML is the one page: a form, a code to copy, or a sentence. It needs no script.
//
//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// pageData fills the page; empty parts are left out.
type pageData struct {
	Title   string
	Problem string // what was wrong with the last attempt
	Note    string
	Code    string // to copy into a terminal

	Action   string // makes the page a form, posted here; relative, so that any of our host names works
	Client   string
	Hidden   []field
	AskCode  bool // for a device's user code
	UserCode string
	Email    string
}

type field struct{ Name, Value string }

func (s *issuer) page(w http.ResponseWriter, status int, data pageData) {
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, data); err != nil {
		httpx.Error(w, http.StatusInternalServerError, "the page could not be rendered")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	// Under no-referrer a browser sends "Origin: null" with our own form. Those without Fetch
	// Metadata have nothing else to show that the form is ours.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}
