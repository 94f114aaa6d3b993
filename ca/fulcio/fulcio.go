// Package fulcio serves a certificate authority over Fulcio's HTTP APIs, version 2 and the
// deprecated version 1 (https://github.com/sigstore/fulcio/blob/main/fulcio.proto).
//
// In goes an identity token with a public key and a proof that its private key is at hand; out
// comes a certificate chain. Requests are checked in the order token, key, key strength, proof,
// algorithm, and every refusal says what was wrong with the request, never how we work.
package fulcio

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"tallywood/ca"
	"tallywood/ca/oidc"
	"tallywood/internal/httpx"
)

// maxBody bounds a request, in bytes: a token, a key or CSR and a proof fit many times.
const maxBody = 128 << 10

// retryAfter is what clients are told when an issuer or the certificate log does not answer.
const retryAfter = 5 * time.Second

// Options configure the handler.
type Options struct {
	// CA issues the certificates. Required.
	CA *ca.CA
	// Verifier verifies the tokens. Required.
	Verifier *oidc.Verifier
	// Log receives faults of our own; nil discards them.
	Log *slog.Logger
}

// New returns a handler for /api/v2/signingCert, /api/v2/trustBundle, /api/v2/configuration,
// /api/v1/signingCert and /api/v1/rootCert.
func New(o Options) (http.Handler, error) {
	if o.CA == nil || o.Verifier == nil {
		return nil, errors.New("fulcio: a CA and a Verifier are required")
	}
	h := &handler{ca: o.CA, verifier: o.Verifier, log: o.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	for _, cert := range o.CA.Chain() {
		h.chain = append(h.chain, encodePEM(cert.Raw))
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v2/signingCert", httpx.Methods(http.HandlerFunc(h.signingCertV2), http.MethodPost))
	mux.Handle("/api/v2/trustBundle", httpx.Methods(h.trustBundle(), http.MethodGet))
	mux.Handle("/api/v2/configuration", httpx.Methods(h.configuration(), http.MethodGet))
	mux.Handle("/api/v1/signingCert", httpx.Methods(http.HandlerFunc(h.signingCertV1), http.MethodPost))
	mux.Handle("/api/v1/rootCert", httpx.Methods(http.HandlerFunc(h.rootCert), http.MethodGet))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		httpx.Error(w, http.StatusNotFound, "no such path")
	})
	return httpx.CollapseSlashes(mux), nil
}

type handler struct {
	ca       *ca.CA
	verifier *oidc.Verifier
	log      *slog.Logger
	chain    []string // PEM of the CA's chain, issuing certificate first
}

func encodePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// certificateChain is the message CertificateChain.
type certificateChain struct {
	Certificates []string `json:"certificates"`
}

// signingCertV2 answers CreateSigningCertificate. Clients insist on 200.
func (h *handler) signingCertV2(w http.ResponseWriter, r *http.Request) {
	body, err := httpx.ReadBody(w, r, maxBody)
	if err != nil {
		httpx.WriteBodyError(w, err)
		return
	}
	req, err := parseV2(body)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	leaf, err := h.issue(r, req)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	type signed struct {
		Chain certificateChain `json:"chain"`
	}
	kind := "signedCertificateDetachedSct"
	if h.ca.Logged() {
		kind = "signedCertificateEmbeddedSct"
	}
	chain := append([]string{leaf}, h.chain...)
	writeJSON(w, map[string]signed{kind: {certificateChain{chain}}})
}

// signingCertV1 answers the version 1 request with 201 and PEM.
func (h *handler) signingCertV1(w http.ResponseWriter, r *http.Request) {
	body, err := httpx.ReadBody(w, r, maxBody)
	if err != nil {
		httpx.WriteBodyError(w, err)
		return
	}
	req, err := parseV1(body)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	leaf, err := h.issue(r, req)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	w.WriteHeader(http.StatusCreated)
	writeText(w, leaf+strings.Join(h.chain, ""))
}

func (h *handler) rootCert(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	writeText(w, strings.Join(h.chain, ""))
}

// trustBundle answers GetTrustBundle.
func (h *handler) trustBundle() http.Handler {
	body := struct {
		Chains []certificateChain `json:"chains"`
	}{[]certificateChain{{h.chain}}}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, body) })
}

// configuration answers GetConfiguration.
func (h *handler) configuration() http.Handler {
	type issuer struct {
		IssuerURL             string `json:"issuerUrl,omitempty"`
		WildcardIssuerURL     string `json:"wildcardIssuerUrl,omitempty"`
		Audience              string `json:"audience"`
		ChallengeClaim        string `json:"challengeClaim"`
		SPIFFETrustDomain     string `json:"spiffeTrustDomain"`
		IssuerType            string `json:"issuerType"`
		SubjectDomain         string `json:"subjectDomain"`
		SkipEmailVerification bool   `json:"skipEmailVerification"`
	}
	body := struct {
		Issuers []issuer `json:"issuers"`
	}{[]issuer{}}
	for _, i := range h.verifier.Issuers() {
		out := issuer{
			IssuerURL: i.URL, Audience: i.Audience, ChallengeClaim: i.ChallengeClaim,
			SPIFFETrustDomain: i.SPIFFETrustDomain, IssuerType: i.Type, SubjectDomain: i.SubjectDomain,
			SkipEmailVerification: i.SkipEmailVerification,
		}
		if i.Wildcard {
			out.IssuerURL, out.WildcardIssuerURL = "", i.URL
		}
		body.Issuers = append(body.Issuers, out)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, body) })
}

func writeJSON(w http.ResponseWriter, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		httpx.Error(w, http.StatusInternalServerError, "the reply could not be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	writeText(w, string(data)+"\n")
}

func writeText(w http.ResponseWriter, text string) {
	// A client that has gone away is nobody's error.
	_, _ = w.Write([]byte(text))
}
